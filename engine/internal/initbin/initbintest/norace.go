//go:build !race

package initbintest

const raceDetector = false
