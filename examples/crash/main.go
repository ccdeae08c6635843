// Command crash exits at once, to show what Sampan says then.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "cannot reach the database: connection refused")
	os.Exit(3)
}
