package db

// Numbered and Reads are shown to the tests: they parse text.
func Numbered(query string) string { return numbered(query) }

func Reads(query string) bool { return reads(query) }
