package main

import "slices"

// attacks are all that the plugin has to bear.
func attacks() []attack {
	return slices.Concat(
		memoryAttacks(), cpuAttacks(), adminAttacks(), networkAttacks(), placesAttacks(),
		signalAttacks(), hostileAttacks(), entraAttacks(), machineAttacks(),
	)
}
