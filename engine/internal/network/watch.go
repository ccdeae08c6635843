package network

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// calm is how long a change by another program is waited for to be complete.
const calm = 100 * time.Millisecond

// watch calls restore when another program has removed rules of ours, until ctx ends.
func (f *firewall) watch(ctx context.Context, log *slog.Logger, restore func() error) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	if err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	for {
		messages, err := conn.Receive()
		if ctx.Err() != nil {
			return nil
		}
		// After an overflow anything may have happened.
		if err == nil && !slices.ContainsFunc(messages, f.concerns) {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(calm):
		}
		whole, err := f.whole()
		if err == nil && whole {
			continue // it was us
		}
		if err == nil {
			log.Warn("another program removed rules of the container networks; they are written again")
			err = restore()
		}
		if err != nil {
			log.Error("the rules of the container networks are not complete", "err", err)
		}
	}
}

// concerns reports whether a message tells that something of a table of ours was removed.
func (f *firewall) concerns(m netlink.Message) bool {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < 4 {
		return false
	}
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE:
	default:
		return false
	}
	attributes, err := netlink.NewAttributeDecoder(m.Data[4:]) // after struct nfgenmsg
	if err != nil {
		return false
	}
	for attributes.Next() {
		if attributes.Type() == unix.NFTA_TABLE_NAME { // the same number for a chain's and a rule's table
			return string(bytes.TrimRight(attributes.Bytes(), "\x00")) == f.tables[0].Name
		}
	}
	return false
}

// whole reports whether the tables that ought to be there have all their rules.
func (f *firewall) whole() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	for _, t := range f.tables {
		if !t.live {
			continue
		}
		chains, err := c.ListChainsOfTableFamily(t.table)
		if err != nil {
			return false, fmt.Errorf("list the chains of nftables: %w", err)
		}
		found := 0
		for _, chain := range chains {
			if chain.Table.Name != t.Name {
				continue
			}
			rules, err := c.GetRules(chain.Table, chain)
			if err != nil {
				return false, fmt.Errorf("list the rules of %s: %w", chain.Name, err)
			}
			found += len(rules)
		}
		if found != t.rules {
			return false, nil
		}
	}
	return true, nil
}
