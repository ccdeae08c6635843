package container

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// randomName is one for a container that nobody named. Of later tries it has a number.
func randomName(try int) string {
	pick := func(words string) string {
		list := strings.Fields(words)
		return list[rand.IntN(len(list))]
	}
	name := pick(adjectives) + "_" + pick(nouns)
	if try > 2 {
		name += fmt.Sprint(rand.IntN(1000))
	}
	return name
}

const (
	adjectives = `able agile amber autumn bold brave breezy bright brisk calm candid clever coastal cosy crisp curious daring deep
		drifting eager early easy fair fast fearless fine fond free fresh friendly gentle glad golden graceful grand happy hardy
		honest humble jolly keen kind light lively lucky lunar merry mighty mild misty modest neat noble northern patient plain
		polite proud quick quiet ready roaming royal rustic sandy serene sharp shining silent silver simple sleepy smooth
		southern steady stormy sunny sure swift tidal tidy tranquil true vivid warm wild windy wise witty young`
	nouns = `albatross anchor anchovy barge bay beacon bosun bow bowsprit buoy cape captain carp catfish channel clam coast
		cormorant coral crab creek crew current cutter deck delta dolphin dory eel egret estuary ferry fjord galley gannet gull
		harbour harpoon haven heron herring hull island jetty junk kayak keel ketch kingfisher lagoon lantern ledge lighthouse
		lobster mackerel mast mooring narwhal oar octopus osprey otter oyster paddle pelican pier pilot plover port prawn puffin
		quay raft reef rigging rudder sail salmon schooner seal shoal shore skiff sloop spray starfish stern sturgeon tern
		tide tiller trout turtle urchin voyage walrus wave whale wharf yawl`
)
