package deis

import (
	"net/http"
	"net/url"
	"strconv"
)

const defaultLimit = 100

// A page of a list.
type page[T any] struct {
	Count    int     `json:"count"`
	Next     *string `json:"next"`
	Previous *string `json:"previous"`
	Results  []T     `json:"results"`
}

// list answers with the part of all that limit and offset ask for.
func list[T any](w http.ResponseWriter, r *http.Request, all []T) error {
	limit := number(r, "limit", defaultLimit)
	if limit == 0 {
		limit = defaultLimit
	}
	offset := min(number(r, "offset", 0), len(all))
	end := min(offset+limit, len(all))
	p := page[T]{Count: len(all), Results: append([]T{}, all[offset:end]...)}
	if end < len(all) {
		p.Next = link(r, limit, end)
	}
	if offset > 0 {
		p.Previous = link(r, limit, max(offset-limit, 0))
	}
	return answer(w, http.StatusOK, p)
}

func number(r *http.Request, name string, otherwise int) int {
	n, err := strconv.Atoi(r.URL.Query().Get(name))
	if err != nil || n < 0 || n > 1<<20 {
		return otherwise
	}
	return n
}

func link(r *http.Request, limit, offset int) *string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if offset > 0 {
		q.Set("offset", strconv.Itoa(offset))
	}
	s := scheme + "://" + r.Host + r.URL.Path + "?" + q.Encode()
	return &s
}
