package apps_test

import (
	"net/http"
	"strings"
	"testing"
)

// What the stock client depends on, request by request.
func TestTheControllerAPIAnswersAsItsClientsExpect(t *testing.T) {
	w := newWorld(t)
	if status, _, body := w.do("deis.localhost", "POST", "/v2/auth/register/", "", map[string]string{"username": "eve", "password": "correct horse"}); status != http.StatusForbidden || !strings.Contains(body, "setup") {
		t.Errorf("registering without the first-run code answers %d %s", status, body)
	}
	token := w.token()
	for _, c := range []struct {
		say, method, path, token string
		in                       any
		status                   int
		body                     string
	}{
		{"the probe before a login is refused", "GET", "/v2/", "", nil, 401, `{"detail":`},
		{"health needs no login", "GET", "/healthz", "", nil, 200, "OK"},
		{"a wrong token is refused", "GET", "/v2/apps/", strings.Repeat("0", 40), nil, 401, `{"detail":`},
		{"a wrong password is told in the client's words", "POST", "/v2/auth/login/", "", map[string]string{"username": "ann", "password": "no"}, 400, `{"non_field_errors":["Unable to log in with provided credentials."]}`},
		{"an empty list has results", "GET", "/v2/apps/", token, nil, 200, `{"count":0,"next":null,"previous":null,"results":[]}`},
		{"a slash at the end may be left out", "GET", "/v2/apps", token, nil, 200, `"results":[]`},
		{"an app is made", "POST", "/v2/apps", token, map[string]string{"id": "shop"}, 201, `"id":"shop"`},
		{"its name is taken now", "POST", "/v2/apps/", token, map[string]string{"id": "shop"}, 400, `{"id":["Application with this id already exists."]}`},
		{"a bad name is refused", "POST", "/v2/apps/", token, map[string]string{"id": "../x"}, 400, `{"id":[`},
		{"what does not exist is a bare string", "GET", "/v2/apps/none/", token, nil, 404, `"No App matches the given query."`},
		{"a new app has its first release", "GET", "/v2/apps/shop/releases/", token, nil, 200, `"summary":"ann created initial release"`},
		{"a new app has no pods", "GET", "/v2/apps/shop/pods/", token, nil, 200, `"results":[]`},
		{"values are merged", "POST", "/v2/apps/shop/config/", token, map[string]any{"values": map[string]any{"A": 1, "B": "x\ny"}}, 201, `"values":{"A":"1","B":"x\ny"}`},
		{"the same values change nothing", "POST", "/v2/apps/shop/config/", token, map[string]any{"values": map[string]any{"A": "1"}}, 409, `ann changed nothing - release stopped`},
		{"null takes a value away", "POST", "/v2/apps/shop/config/", token, map[string]any{"values": map[string]any{"A": nil}}, 201, `"values":{"B":"x\ny"}`},
		{"what is not there cannot be taken away", "POST", "/v2/apps/shop/config/", token, map[string]any{"values": map[string]any{"A": nil}}, 422, `A does not exist under values`},
		{"a bad key is refused", "POST", "/v2/apps/shop/config/", token, map[string]any{"values": map[string]any{"a-b": "1"}}, 400, `{"values":[`},
		{"limits are checked", "POST", "/v2/apps/shop/config/", token, map[string]any{"memory": map[string]any{"web": "lots"}}, 400, `is not an amount of memory`},
		{"limits are said in the summary", "POST", "/v2/apps/shop/config/", token, map[string]any{"memory": map[string]any{"web": "64M"}}, 201, `"memory":{"web":"64M"}`},
		{"without a build nothing scales", "POST", "/v2/apps/shop/scale/", token, map[string]int{"web": 1}, 400, `No build associated`},
		{"the initial release is no target", "POST", "/v2/apps/shop/releases/rollback/", token, map[string]int{"version": 1}, 400, `Cannot roll back to initial release.`},
		{"nor is one before it", "POST", "/v2/apps/shop/releases/rollback/", token, map[string]int{"version": -1}, 400, `version cannot be below 0`},
		{"a domain is added", "POST", "/v2/apps/shop/domains/", token, map[string]string{"domain": "Shop.Example.org"}, 201, `"domain":"shop.example.org"`},
		{"a domain has one app", "POST", "/v2/apps/shop/domains/", token, map[string]string{"domain": "shop.example.org"}, 400, `{"domain":["Domain is already in use by another application"]}`},
		{"Sampan's own hosts are no domains", "POST", "/v2/apps/shop/domains/", token, map[string]string{"domain": "deis.localhost"}, 400, `already in use`},
		{"a name below ours is a domain too", "POST", "/v2/apps/shop/domains/", token, map[string]string{"domain": "blog.localhost"}, 201, `"domain":"blog.localhost"`},
		{"as a single word as well", "POST", "/v2/apps/shop/domains/", token, map[string]string{"domain": "news"}, 201, `"domain":"news"`},
		{"then no app can have that host", "POST", "/v2/apps/", token, map[string]string{"id": "blog"}, 400, `{"id":["blog.localhost is a domain of another application."]}`},
		{"in neither spelling", "POST", "/v2/apps/", token, map[string]string{"id": "news"}, 400, `{"id":[`},
		{"a bad domain is refused", "POST", "/v2/apps/shop/domains/", token, map[string]string{"domain": "*"}, 400, `{"domain":["Hostname does not look valid."]}`},
		{"a domain is removed", "DELETE", "/v2/apps/shop/domains/shop.example.org", token, nil, 204, ""},
		{"twice is once too often", "DELETE", "/v2/apps/shop/domains/shop.example.org", token, nil, 404, `"No Domain matches the given query."`},
		{"the log tells what happened", "GET", "/v2/apps/shop/logs?log_lines=100", token, nil, 200, "deis[controller]: INFO ann changed limits for memory\n"},
		{"nobody to share with", "POST", "/v2/apps/shop/perms/", token, map[string]string{"username": "bob"}, 404, `"No User matches the given query."`},
		{"an owner is not deleted", "DELETE", "/v2/auth/cancel/", token, map[string]string{}, 409, `still has applications assigned. Delete or transfer ownership`},
		{"who am I", "GET", "/v2/auth/whoami/", token, nil, 200, `"username":"ann"`},
		{"a broken body is told", "POST", "/v2/apps/shop/config/", token, "no object", 400, `JSON parse error`},
		{"an app is destroyed", "DELETE", "/v2/apps/shop/", token, nil, 204, ""},
		{"and gone", "GET", "/v2/apps/shop/", token, nil, 404, `"No App matches the given query."`},
		{"its name is free again", "POST", "/v2/apps/", token, map[string]string{"id": "shop"}, 201, `"id":"shop"`},
	} {
		status, header, body := w.do("deis.localhost", c.method, c.path, c.token, c.in)
		if status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s: %s %s answers %d %s; want %d with %s", c.say, c.method, c.path, status, body, c.status, c.body)
		}
		if header.Get("DEIS_API_VERSION") != "2.3" || header.Get("DEIS_PLATFORM_VERSION") != "1.2.3" {
			t.Errorf("%s: the versions are missing: %v", c.say, header)
		}
	}
}

func TestWhatAStrangerAsksForDoesNotExist(t *testing.T) {
	w := newWorld(t)
	w.want(http.StatusCreated, "POST", "/v2/apps/", map[string]string{"id": "shop"}, nil)
	bob := map[string]string{"username": "bob", "password": "correct horse", "email": "bob@example.org"}
	w.want(http.StatusCreated, "POST", "/v2/auth/register/", bob, nil)
	var out struct{ Token string }
	w.want(http.StatusOK, "POST", "/v2/auth/login/", bob, &out)
	ask := func(method, path string) int {
		status, _, _ := w.do("deis.localhost", method, path, out.Token, map[string]any{})
		return status
	}
	for _, path := range []string{"", "logs", "config/", "releases/", "builds/", "pods/", "domains/", "perms/", "metrics"} {
		if status := ask("GET", "/v2/apps/shop/"+path); status != http.StatusNotFound {
			t.Errorf("a stranger to the app gets %d for %q", status, path)
		}
	}
	w.want(http.StatusCreated, "POST", "/v2/apps/shop/perms/", map[string]string{"username": "bob"}, nil)
	if got := ask("GET", "/v2/apps/shop/config/"); got != http.StatusOK {
		t.Errorf("with whom the app is shared gets %d", got)
	}
	if got := ask("DELETE", "/v2/apps/shop/"); got != http.StatusForbidden {
		t.Errorf("destroying a shared app answers %d", got)
	}
}

// Everybody may deploy what they may see, but not in the way of those who push it.
func TestAStrangersAppIsNoPartOfAPush(t *testing.T) {
	w := newWorld(t)
	token := map[string]string{}
	for _, name := range []string{"bob", "eve"} {
		person := map[string]string{"username": name, "password": "correct horse", "email": name + "@example.org"}
		w.want(http.StatusCreated, "POST", "/v2/auth/register/", person, nil)
		var out struct{ Token string }
		w.want(http.StatusOK, "POST", "/v2/auth/login/", person, &out)
		token[name] = out.Token
	}
	for name, want := range map[string]int{"bob": http.StatusCreated, "eve": http.StatusForbidden} {
		app := map[string]string{"id": name + "s"}
		if status, _, body := w.do("deis.localhost", "POST", "/v2/apps/", token[name], app); status != http.StatusCreated {
			t.Fatalf("%s makes an app: %d %s", name, status, body)
		}
		source := map[string]string{"repository": "ann/hello", "branch": "main"}
		status, _, body := w.do("deis.localhost", "POST", "/v2/apps/"+name+"s/source", token[name], source)
		if status/100 != want/100 {
			t.Errorf("%s lets an app follow the repository: %d %s; want %d", name, status, body, want)
		}
	}
	if said := w.push(w.commit(map[string]string{"index.html": "hello"})); said != "" {
		t.Errorf("who pushes reads of somebody else's app: %s", said)
	}
}
