package forge_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// call asks the API as a person with a password; "" is a stranger.
func (s *site) call(user, method, path, body string, into any) int {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+"/api/v1"+path, strings.NewReader(body))
	s.must(err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	status, text := s.do(req)
	if into != nil {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			s.t.Fatalf("%s %s: %d %v in %s", method, path, status, err, text)
		}
	}
	return status
}

func TestAPI(t *testing.T) {
	s := serve(t)
	var m map[string]any
	var list []map[string]any
	want := func(got, want int) {
		t.Helper()
		if got != want {
			t.Fatalf("status %d, want %d: %v", got, want, m)
		}
	}
	want(s.call("", "GET", "/version", "", &m), 200)
	want(s.call("", "GET", "/user", "", &m), 401)
	if m["message"] == "" || m["url"] == nil {
		t.Errorf("the error is %v", m)
	}
	want(s.call("ann", "GET", "/user", "", &m), 200)
	if m["login"] != "ann" || m["is_admin"] != true {
		t.Errorf("ann is %v", m)
	}
	want(s.call("ann", "POST", "/user/repos", `{"name":"hello","private":true,"description":"d"}`, &m), 201)
	if m["full_name"] != "ann/hello" || m["private"] != true || !strings.HasPrefix(m["ssh_url"].(string), "ssh://git@") || m["default_branch"] != "main" {
		t.Errorf("the repository is %v", m)
	}
	want(s.call("ann", "POST", "/user/repos", `{"name":"hello"}`, &m), 409)
	want(s.call("ann", "POST", "/user/repos", `{"name":"../x"}`, &m), 422)
	want(s.call("", "POST", "/user/repos", `{"name":"x"}`, &m), 401)
	want(s.call("ann", "GET", "/user/repos", "", &list), 200)
	if len(list) != 1 {
		t.Errorf("ann has %v", list)
	}
	want(s.call("bob", "GET", "/user/repos", "", &list), 200)
	if len(list) != 0 {
		t.Errorf("bob sees %v", list)
	}
	want(s.call("bob", "GET", "/repos/ann/hello", "", &m), 404)
	want(s.call("bob", "DELETE", "/repos/ann/hello", "", &m), 404)
	want(s.call("ann", "PATCH", "/repos/ann/hello", `{"private":false}`, &m), 200)
	want(s.call("", "GET", "/repos/ann/hello", "", &m), 200)
	want(s.call("bob", "DELETE", "/repos/ann/hello", "", &m), 403)
	key, err := os.ReadFile(filepath.Join(s.person("").home, "key.pub"))
	s.must(err)
	body, _ := json.Marshal(map[string]string{"title": "laptop", "key": string(key)})
	want(s.call("bob", "POST", "/user/keys", string(body), &m), 201)
	if m["fingerprint"] == "" || m["key_type"] != "ssh-ed25519" {
		t.Errorf("the key is %v", m)
	}
	want(s.call("ann", "POST", "/user/keys", string(body), &m), 409)
	want(s.call("bob", "GET", "/user/keys", "", &list), 200)
	id, _ := json.Marshal(list[0]["id"])
	want(s.call("bob", "DELETE", "/user/keys/"+string(id), "", nil), 204)
	want(s.call("bob", "POST", "/users/bob/tokens", `{"name":"ci","scopes":["read:repository"]}`, &m), 201)
	if secret, _ := m["sha1"].(string); len(secret) != 40 {
		t.Errorf("the token is %v", m)
	}
	want(s.call("bob", "GET", "/users/ann/tokens", "", &m), 404)
	want(s.call("bob", "GET", "/users/bob/tokens", "", &list), 200)
	want(s.call("bob", "DELETE", "/users/bob/tokens/ci", "", nil), 204)
	want(s.call("bob", "POST", "/admin/users", `{"username":"eve","password":"a long password"}`, &m), 403)
	want(s.call("ann", "POST", "/admin/users", `{"username":"eve","password":"a long password","email":"eve@example.org"}`, &m), 201)
	want(s.call("ann", "GET", "/nothing", "", &m), 404)
	want(s.call("ann", "DELETE", "/repos/ann/hello", "", nil), 204)
	want(s.call("ann", "GET", "/repos/ann/hello", "", &m), 404)
	if left, _ := filepath.Glob(filepath.Join(s.dir, "git/*/*.git")); len(left) != 0 {
		t.Errorf("files of a deleted repository: %v", left)
	}
}
