// Package test drives the real program with real clients: git, ssh, curl, etcdctl, a
// browser. The scripts (testscript, txtar) lie here and with the slices they are about.
package test
