package web

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// maxValues is how many values a query or form may have.
const maxValues = 1000

// An InputError tells which fields of a request could not be understood, and why.
type InputError struct{ Fields []FieldError }

// FieldError is what is wrong with one field.
type FieldError struct{ Name, Reason string }

func (e *InputError) Error() string {
	var s []string
	for _, f := range e.Fields {
		s = append(s, f.Name+" "+f.Reason)
	}
	return strings.Join(s, "; ")
}

// HTTPStatus is 400 Bad Request.
func (e *InputError) HTTPStatus() int { return http.StatusBadRequest }

// Bind fills the fields of the struct that dst points to from a request:
//
//	type edit struct {
//		Number int      `path:"number"`
//		Query  string   `query:"q" max:"200"`
//		Title  string   `form:"title" required:"true" max:"255"`
//		Labels []string `form:"label"`
//		Draft  bool     `form:"draft"` // a ticked box
//	}
//
// Fields are strings, booleans, numbers, [time.Duration], an [encoding.TextUnmarshaler],
// *[multipart.FileHeader], or slices of these; an embedded struct's fields count as the
// struct's own. What a request lacks keeps the value that it has, an empty number too. max
// counts characters; text must be UTF-8 without NUL, which databases refuse. All that is
// wrong is told in one [InputError]. A body larger than Config.MaxBody is refused with 413.
//
// A struct's type is looked at once for an App.
func Bind(r *http.Request, dst any) error {
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("web: Bind needs a pointer to a struct, not %T", dst))
	}
	v = v.Elem()
	p := planFor(r, v.Type())
	src := source{r: r}
	if err := src.read(p); err != nil {
		return err
	}
	var bad InputError
	for i := range p.fields {
		f := &p.fields[i]
		if reason := f.set(v, &src); reason != "" {
			bad.Fields = append(bad.Fields, FieldError{f.name, reason})
		}
	}
	if bad.Fields != nil {
		return &bad
	}
	return nil
}

// ReadJSON decodes the JSON body of a request into dst, at most Config.MaxBody bytes of it.
func ReadJSON(r *http.Request, dst any) error {
	d := json.NewDecoder(limitBody(r))
	if err := d.Decode(dst); err != nil {
		return bodyError(err, "JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Error(http.StatusBadRequest, "the body has something after its JSON value")
	}
	return nil
}

// source is where values come from.
type source struct {
	r     *http.Request
	query url.Values
}

// read parses what the plan asks for and no more.
func (s *source) read(p *plan) error {
	if p.query {
		s.query = s.r.URL.Query()
		if len(s.query) > maxValues {
			return Error(http.StatusBadRequest, "the query has more than %d values", maxValues)
		}
	}
	if !p.form || s.r.PostForm != nil {
		return nil
	}
	s.r.Body = limitBody(s.r)
	t, _, _ := mime.ParseMediaType(s.r.Header.Get("Content-Type"))
	var err error
	if t == "multipart/form-data" {
		err = s.r.ParseMultipartForm(maxBody(s.r)) // all within the limit, so nothing goes to disk
	} else {
		err = s.r.ParseForm()
	}
	if err != nil {
		return bodyError(err, "a form")
	}
	if len(s.r.PostForm) > maxValues {
		return Error(http.StatusBadRequest, "the form has more than %d values", maxValues)
	}
	return nil
}

func maxBody(r *http.Request) int64 {
	if st := stateOf(r); st != nil {
		return st.core.MaxBody
	}
	return 1 << 20
}

func limitBody(r *http.Request) io.ReadCloser {
	var w http.ResponseWriter
	if st := stateOf(r); st != nil {
		w = st.out.ResponseWriter // told to close the connection when there is more
	}
	return http.MaxBytesReader(w, r.Body, maxBody(r))
}

func bodyError(err error, what string) error {
	if tooBig, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return Error(http.StatusRequestEntityTooLarge, "the request is larger than %d bytes", tooBig.Limit)
	}
	return Error(http.StatusBadRequest, "the body is not %s: %w", what, err)
}

func (s *source) values(f *boundField) []string {
	switch f.from {
	case "path":
		if v := s.r.PathValue(f.name); v != "" {
			return []string{v}
		}
		return nil
	case "query":
		return s.query[f.name]
	}
	return s.r.PostForm[f.name]
}

func (s *source) files(name string) []*multipart.FileHeader {
	if s.r.MultipartForm == nil {
		return nil
	}
	return s.r.MultipartForm.File[name]
}

// plans keeps one plan for each type of struct.
type plans struct{ byType sync.Map } // reflect.Type to *plan

// plan is what Bind has to do for a type.
type plan struct {
	fields      []boundField
	query, form bool
}

type boundField struct {
	name, from string
	index      []int
	required   bool
	max        int
	slice      bool
	file       bool
	parse      func(dst reflect.Value, s string) (reason string)
}

func planFor(r *http.Request, t reflect.Type) *plan {
	st := stateOf(r)
	if st == nil {
		return makePlan(t)
	}
	if p, ok := st.core.plans.byType.Load(t); ok {
		return p.(*plan)
	}
	p := makePlan(t)
	st.core.plans.byType.Store(t, p)
	return p
}

// makePlan panics on a struct that cannot be bound: that is a bug in the program.
func makePlan(t reflect.Type) *plan {
	p := &plan{}
	for _, sf := range reflect.VisibleFields(t) {
		for _, from := range [...]string{"path", "query", "form"} {
			name, ok := sf.Tag.Lookup(from)
			if !ok {
				continue
			}
			f := boundField{name: name, from: from, index: sf.Index, required: sf.Tag.Get("required") == "true"}
			f.max, _ = strconv.Atoi(sf.Tag.Get("max"))
			f.setType(sf, t)
			p.query = p.query || from == "query"
			p.form = p.form || from == "form"
			p.fields = append(p.fields, f)
			break
		}
	}
	return p
}

func (f *boundField) setType(sf reflect.StructField, in reflect.Type) {
	t := sf.Type
	if t == reflect.TypeFor[*multipart.FileHeader]() || t == reflect.TypeFor[[]*multipart.FileHeader]() {
		f.file = true
	}
	if f.parse = parserOf(t); f.parse == nil && t.Kind() == reflect.Slice {
		f.slice = true
		f.parse = parserOf(t.Elem())
	}
	if !sf.IsExported() || f.parse == nil && !f.file {
		panic(fmt.Sprintf("web: Bind cannot fill field %s %s of %s", sf.Name, t, in))
	}
}

func parserOf(t reflect.Type) func(reflect.Value, string) string {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return parseText
	}
	if t == reflect.TypeFor[time.Duration]() {
		return parseDuration
	}
	switch t.Kind() {
	case reflect.String:
		return func(v reflect.Value, s string) string { v.SetString(s); return "" }
	case reflect.Bool:
		return parseBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return parseInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return parseUint
	case reflect.Float32, reflect.Float64:
		return parseFloat
	}
	return nil
}

func parseText(v reflect.Value, s string) string {
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
		return "is not valid: " + err.Error()
	}
	return ""
}

func parseBool(v reflect.Value, s string) string {
	switch s {
	case "on", "true", "1", "yes":
		v.SetBool(true)
	case "", "off", "false", "0", "no":
		v.SetBool(false)
	default:
		return "must be true or false"
	}
	return ""
}

func parseInt(v reflect.Value, s string) string {
	if s = strings.TrimSpace(s); s == "" {
		return ""
	}
	n, err := strconv.ParseInt(s, 10, v.Type().Bits())
	if err != nil {
		return numberReason(err)
	}
	v.SetInt(n)
	return ""
}

func parseUint(v reflect.Value, s string) string {
	if s = strings.TrimSpace(s); s == "" {
		return ""
	}
	n, err := strconv.ParseUint(s, 10, v.Type().Bits())
	if err != nil {
		return numberReason(err)
	}
	v.SetUint(n)
	return ""
}

func parseFloat(v reflect.Value, s string) string {
	if s = strings.TrimSpace(s); s == "" {
		return ""
	}
	n, err := strconv.ParseFloat(s, v.Type().Bits())
	if err != nil || n-n != 0 { // infinities and NaN are numbers to strconv
		return "must be a number"
	}
	v.SetFloat(n)
	return ""
}

func parseDuration(v reflect.Value, s string) string {
	if s = strings.TrimSpace(s); s == "" {
		return ""
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return "must be a time such as 90s or 5m"
	}
	v.SetInt(int64(d))
	return ""
}

func numberReason(err error) string {
	if errors.Is(err, strconv.ErrRange) {
		return "is out of range"
	}
	return "must be a whole number"
}

// set fills the field in v; the reason is empty when it could.
func (f *boundField) set(v reflect.Value, src *source) (reason string) {
	if f.file {
		return f.setFile(v, src.files(f.name))
	}
	values := src.values(f)
	if f.required && (len(values) == 0 || strings.TrimSpace(values[0]) == "") {
		return "is missing"
	}
	if len(values) == 0 {
		return ""
	}
	for _, s := range values {
		if reason := f.check(s); reason != "" {
			return reason
		}
	}
	dst := v.FieldByIndex(f.index)
	if !f.slice {
		return f.parse(dst, values[0])
	}
	list := reflect.MakeSlice(dst.Type(), len(values), len(values))
	for i, s := range values {
		if reason := f.parse(list.Index(i), s); reason != "" {
			return reason
		}
	}
	dst.Set(list)
	return ""
}

func (f *boundField) setFile(v reflect.Value, files []*multipart.FileHeader) string {
	if len(files) == 0 {
		if f.required {
			return "is missing"
		}
		return ""
	}
	dst := v.FieldByIndex(f.index)
	if dst.Kind() == reflect.Slice {
		dst.Set(reflect.ValueOf(files))
	} else {
		dst.Set(reflect.ValueOf(files[0]))
	}
	return ""
}

func (f *boundField) check(s string) string {
	switch {
	case !utf8.ValidString(s), strings.IndexByte(s, 0) >= 0:
		return "is not plain text"
	case f.max > 0 && utf8.RuneCountInString(s) > f.max:
		return fmt.Sprintf("is longer than %d characters", f.max)
	}
	return ""
}
