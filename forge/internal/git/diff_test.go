package git_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan.dev/sampan/forge/internal/git"
)

func TestDiff(t *testing.T) {
	_, r := open(t)
	dir, _ := history(t)
	write(t, dir, "a b.txt", "one\n-- two\n")
	write(t, dir, "bin", "a\x00b")
	write(t, dir, "ü.txt", "x\n")
	client(t, dir, "mv", "README.md", "READ.md")
	client(t, dir, "rm", "-q", "cmd/hello/main.go")
	client(t, dir, "add", ".")
	client(t, dir, "commit", "-qm", "third")
	write(t, dir, "a b.txt", "one\n++ two\n")
	os.Chmod(filepath.Join(dir, "bin"), 0o755)
	client(t, dir, "commit", "-qam", "fourth")
	head := client(t, dir, "rev-parse", "HEAD")
	receive(t, r, dir, head, "refs/heads/main")
	list, err := r.Log(t.Context(), git.LogOptions{From: head, Limit: 9})
	if err != nil {
		t.Fatal(err)
	}
	all := git.DiffLimits{Files: 100, Lines: 100}
	d, err := r.Diff(t.Context(), list[1], all)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]git.FileDiff{}
	for _, f := range d.Files {
		got[f.Old+">"+f.New] = f
	}
	if f := got[">a b.txt"]; f.Added != 2 || len(f.Lines) != 3 || f.Lines[2].Text != "-- two" || f.Lines[2].New != 2 {
		t.Errorf("new file: %+v", f)
	}
	if f := got[">bin"]; !f.Binary {
		t.Errorf("binary: %+v", f)
	}
	if _, ok := got[">ü.txt"]; !ok {
		t.Errorf("an unusual name: %v", got)
	}
	if _, ok := got["README.md>READ.md"]; !ok {
		t.Errorf("a rename: %v", got)
	}
	if f := got["cmd/hello/main.go>"]; f.Deleted != 3 {
		t.Errorf("a deletion: %+v", f)
	}
	d, err = r.Diff(t.Context(), list[0], all)
	if err != nil || len(d.Files) != 2 || d.Files[0].Added != 1 || d.Files[0].Deleted != 1 || d.Files[1].Mode != "100755" {
		t.Errorf("lines that look like heads: %+v, %v", d, err)
	}
	d, _ = r.Diff(t.Context(), list[1], git.DiffLimits{Files: 2, Lines: 2})
	if len(d.Files) != 2 || d.More != 3 || !d.Files[1].Cut && !d.Files[0].Cut {
		t.Errorf("limits: %+v", d)
	}
	var patch strings.Builder
	if err := r.WritePatch(t.Context(), head, &patch); err != nil || !strings.Contains(patch.String(), "Subject: [PATCH] fourth") {
		t.Errorf("patch %q, %v", patch.String(), err)
	}
}

func FuzzParseDiff(f *testing.F) {
	f.Add("diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@ f\n a\n-b\n+c\n")
	f.Add("diff --git \"a/\\303\\274\" \"b/\\303\\274\"\nnew file mode 100644\n@@ -0,0 +1 @@\n+x\n\\ No newline at end of file\n")
	f.Fuzz(func(t *testing.T, in string) {
		d, err := git.ParseDiff(strings.NewReader(in), git.DiffLimits{Files: 5, Lines: 50})
		if err != nil || len(d.Files) > 5 {
			t.Fatal(len(d.Files), err)
		}
		for _, file := range d.Files {
			if len(file.Lines) > 50 {
				t.Fatal("too many lines")
			}
		}
	})
}
