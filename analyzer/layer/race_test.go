//go:build race

package layer

// raceEnabled makes the largest inputs smaller: the race detector costs a factor of ten.
const raceEnabled = true
