// Command worker works in the background, until it is told to stop.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	every := flag.Duration("every", time.Second, "how often to work")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	for tick := time.Tick(*every); ; {
		log.Print("worked")
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
	}
}
