package mesh

import "strings"

// hostname drops the port of a Host header's value; brackets of an IPv6 address stay.
func hostname(hostport string) string {
	colon := strings.LastIndexByte(hostport, ':')
	if colon < 0 || strings.IndexByte(hostport[colon:], ']') >= 0 {
		return hostport
	}
	if strings.IndexByte(hostport[:colon], ':') >= 0 && !strings.HasPrefix(hostport, "[") {
		return hostport // an IPv6 address without brackets has no port
	}
	return hostport[:colon]
}

// canonical writes a name the one way that names are compared: lower case, no final dot.
func canonical(host string) string {
	return strings.TrimSuffix(strings.ToLower(host), ".")
}
