//go:build race

package initbintest

// raceDetector has sampan-init watched by the race detector when its tests are.
const raceDetector = true
