package spec

import "strings"

// MergeEnv lays env over defaults: a later NAME=value replaces an earlier one in its place,
// a NAME alone removes it.
func MergeEnv(defaults, env []string) []string {
	at := make(map[string]int, len(defaults)+len(env))
	merged := make([]string, 0, len(defaults)+len(env))
	for _, list := range [2][]string{defaults, env} {
		for _, entry := range list {
			name, _, has := strings.Cut(entry, "=")
			i, seen := at[name]
			switch {
			case !has && seen:
				merged[i] = ""
			case has && seen:
				merged[i] = entry
			case has:
				at[name] = len(merged)
				merged = append(merged, entry)
			}
		}
	}
	kept := merged[:0]
	for _, entry := range merged {
		if entry != "" {
			kept = append(kept, entry)
		}
	}
	return kept
}
