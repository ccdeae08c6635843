// Command ticker serves what TEXT says and prints a counted line fifty times a second.
package main

import (
	"fmt"
	"net/http"
	"os"
	"time"
)

func main() {
	born := time.Now().UnixNano() // tells one process from the next
	go func() {
		for n := 0; ; n++ {
			fmt.Printf("tick %d\n", n)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, os.Getenv("TEXT"), born)
	})
	if err := http.ListenAndServe(":"+os.Getenv("PORT"), nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
