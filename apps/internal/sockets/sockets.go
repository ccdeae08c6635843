// Package sockets reads which TCP addresses the processes of a network namespace listen on.
//
// The source is Linux's /proc/PID/net/tcp and tcp6 (proc_net_tcp): addresses as hexadecimal
// words in the machine's byte order, state 0A for listening.
package sockets

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const listening = "0A"

// A Socket listens.
type Socket struct {
	Addr  netip.AddrPort
	Inode string
}

// Of lists the listening sockets in the network namespace of a process.
func Of(pid int) ([]Socket, error) {
	var list []Socket
	for _, name := range []string{"tcp", "tcp6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // IPv6 may be off; a process may have ended
		}
		if err != nil {
			return nil, fmt.Errorf("read sockets of process %d: %w", pid, err)
		}
		found, err := Parse(f)
		f.Close()
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	return list, nil
}

// Parse reads one of the two files.
func Parse(r io.Reader) ([]Socket, error) {
	var list []Socket
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != listening {
			continue
		}
		addr, ok := parseAddr(fields[1])
		if !ok {
			return nil, fmt.Errorf("read sockets: %q is no address", fields[1])
		}
		list = append(list, Socket{Addr: addr, Inode: fields[9]})
	}
	return list, lines.Err()
}

func parseAddr(text string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	number, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || (len(raw) != 4 && len(raw) != 16) {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), true
}

// Inodes lists the sockets that a process holds open.
func Inodes(pid int) (map[string]bool, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	held := map[string]bool{}
	for _, e := range entries {
		link, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			held[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return held, nil
}
