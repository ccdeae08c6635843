package mesh

import "sync"

const chunk = 32 << 10 // bytes moved at once

// buffers are reused between requests.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *[]byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return buf
	}
	buf := make([]byte, chunk)
	return &buf
}

func (b *buffers) put(buf *[]byte) { b.pool.Put(buf) }
