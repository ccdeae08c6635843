// Package legacy gives answers the members that older clients look for and that the types of
// today do not have.
package legacy

import (
	"encoding/json"
	"fmt"
)

// With is v in JSON, with members added where v has none. Objects are merged.
func With(v any, members map[string]any) (map[string]any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode for an older client: %w", err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("encode for an older client: %w", err)
	}
	merge(out, members)
	return out, nil
}

func merge(into, members map[string]any) {
	for name, value := range members {
		old, there := into[name]
		if !there {
			into[name] = value
			continue
		}
		if below, ok := value.(map[string]any); ok {
			if inner, ok := old.(map[string]any); ok {
				merge(inner, below)
			}
		}
	}
}
