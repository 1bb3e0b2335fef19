package main

import (
	"time"

	"akv-csi-provider/provider/azuretest"
)

// How the cases use the plugin.
const (
	parallel = 20 // pods that the driver mounts at a time
	ttl      = 30 * time.Second
)

// Floors.
const (
	newFloor   = signIn + read // the plugin knows the endpoints of the public cloud
	crowdFloor = 100 / parallel * newFloor
	quickRetry = 100 * time.Millisecond // after a single 503

	pages     = 1000 / 25 // of a list
	findFloor = signIn + pages*read + read
	slowVault = 100 * time.Millisecond
)

// tenSecrets is the target for ten of them in milliseconds, whatever they become.
const tenSecrets = 95

// Flags.
var (
	sharedRotations = []string{"--rotation-cache-ttl=" + ttl.String()}
	freshRotations  = []string{"--rotation-cache-ttl=0"}
)

// cases are what is measured.
func cases() []benchmark { return append(listedCases(), contentCases()...) }

func listedCases() []benchmark {
	return []benchmark{{
		name: "cold, 1 secret", about: "the first mount of a fresh process",
		secrets: 1, floor: floor{p50, newFloor},
		targets: []target{p50.atMost(90), requests.atMost(3), failures.none()},
		run:     cold(5),
	}, {
		name: "cold, 10 secrets", about: "the same with more secrets",
		secrets: 10, floor: floor{p50, newFloor},
		targets: []target{p50.atMost(tenSecrets), failures.none()},
		run:     cold(5),
	}, {
		name: "cold, 50 secrets", about: "the same with many secrets",
		secrets: 50, floor: floor{p50, newFloor},
		targets: []target{p50.atMost(160), failures.none()},
		run:     cold(5),
	}, {
		name: "warm, known pod", about: "a pod's volume again, with the same token; nothing is taken from a cache of values",
		secrets: 10, flags: freshRotations, floor: floor{p50, read},
		targets: []target{p50.atMost(28), requests.atMost(10), failures.none()},
		run:     warm(20),
	}, {
		name: "new pod, known account", about: "one new pod after another, of a service account seen before",
		secrets: 10, floor: floor{p50, newFloor},
		targets: []target{p50.atMost(70), requests.atMost(11), failures.none()},
		run:     newPods(20),
	}, {
		name: "100 pods, HTTP/1.1", about: "100 new pods of one service account, 20 at a time, in a fresh process",
		secrets: 10, floor: floor{wall, crowdFloor},
		targets: []target{wall.atMost(450), requests.atMost(280), handshakes.atMost(40), failures.none()},
		run:     crowd(100, parallel, false),
	}, {
		name: "100 pods, HTTP/2", about: "the same over HTTP/2", http2: true,
		secrets: 10, floor: floor{wall, crowdFloor},
		targets: []target{wall.atMost(450), requests.atMost(280), handshakes.atMost(8), failures.none()},
		run:     crowd(100, parallel, false),
	}, {
		name: "100 identities", about: "100 new pods, each with its own identity, 20 at a time, in a fresh process",
		secrets: 10, floor: floor{wall, crowdFloor},
		targets: []target{wall.atMost(450), requests.atMost(1100 + 5), failures.none()},
		run:     crowd(100, parallel, true),
	}, {
		name: "rotation at once", about: "50 known pods of one service account, 20 at a time, within one TTL",
		secrets: 10, flags: sharedRotations, floor: floor{wall, read},
		targets: []target{requests.atMost(12), failures.none()},
		run:     rotations(50, 1, nil),
	}, {
		name: "rotation over 75 s", about: "50 known pods of one service account, each once at a random moment",
		secrets: 10, flags: sharedRotations,
		targets: []target{requestsPerTTL.atMost(10), failures.none()},
		run:     scattered(50, 75*time.Second),
	}, {
		name: "rotations under a quota", about: "50 known pods, five rounds one after another, the vault answers 400 reads per 10 s",
		secrets: 10, flags: sharedRotations, floor: floor{wall, read},
		targets: []target{wall.atMost(2000), failures.none()},
		run:     rotations(50, 5, quota(400, 10*time.Second)),
	}, {
		name: "5 % of answers 503", about: "100 new pods of one service account, 20 at a time, every 20th answer of the vault is a 503",
		secrets: 10, floor: floor{p99, newFloor + quickRetry + read},
		targets: []target{p99.atMost(700), failures.none()},
		run:     under(fault(azuretest.Fault{Status: 503, Every: 20}, azuretest.GetSecret), crowd(100, parallel, false)),
	}, {
		name: "vault down", about: "a warm plugin, new pods of a known service account, retried as kubelet does; the vault resets every connection",
		secrets: 10, flags: []string{"--mount-timeout=" + mountTimeout.String()},
		targets: []target{slowestError.atMost(milliseconds(mountTimeout + delivery)), wrongErrors.none(), attemptsPerSecond.atMost(1)},
		run:     vaultDown(5, 30*time.Second),
	}, {
		name: "Entra down", about: "20 known pods whose tokens are still good; nothing is taken from a cache of values",
		secrets: 10, flags: freshRotations, floor: floor{p50, read},
		targets: []target{failures.none()},
		run:     rotations(20, 1, fault(azuretest.Fault{Reset: true}, azuretest.Metadata, azuretest.Token)),
	}, {
		name: "idle", about: "5 s after the start, no mount yet",
		targets: []target{idleMemory.atMost(20)},
		run:     idle(5 * time.Second),
	}, {
		name: "500 pods at once", about: "500 new pods of one service account, all at a time, in a fresh process",
		secrets: 10, floor: floor{wall, newFloor},
		targets: []target{peak.atMost(42), failures.none()},
		run:     crowd(500, 500, false),
	}}
}

// contentCases are those of pods that mount more than a list of secrets. On a busy machine a read
// may be sent twice.
func contentCases() []benchmark {
	return []benchmark{{
		name: "cold, 100 of 1,000 found", about: "a search in a fresh process; Key Vault lists in pages of 25, one after the other",
		content: searched(1000), floor: floor{p50, findFloor},
		targets: []target{p50.atMost(milliseconds(findFloor) + 100), lists.atMost(pages), reads.atMost(105), failures.none()},
		run:     cold(3),
	}, {
		name: "rotation of a search", about: "50 known pods with that search, of one service account, 20 at a time, within one TTL",
		content: searched(1000), flags: sharedRotations, floor: floor{wall, read},
		targets: []target{lists.atMost(pages), reads.atMost(105), failures.none()},
		run:     rotations(50, 1, nil),
	}, {
		name: "cold, 10 pieces of JSON", about: "one secret that becomes ten files, in a fresh process",
		content: pieces(10), floor: floor{p50, newFloor},
		targets: []target{p50.atMost(90), requests.atMost(3), reads.atMost(1), failures.none()},
		run:     cold(5),
	}, {
		name: "cold, template of 10", about: "a document with ten secrets, in a fresh process",
		content: templated(10), floor: floor{p50, newFloor},
		targets: []target{p50.atMost(tenSecrets), reads.atMost(11), failures.none()},
		run:     cold(5),
	}, {
		name: "cold, three vaults", about: "ten secrets in each, in a fresh process; two vaults take 50 ms longer, one 100 ms",
		content: inVaults(10, slowVault/2, slowVault, slowVault/2), floor: floor{p50, newFloor + slowVault},
		targets: []target{p50.atMost(tenSecrets + milliseconds(slowVault)), reads.atMost(32), failures.none()},
		run:     cold(5),
	}, {
		name: "first vault silent", about: "20 new pods at once in a fresh process, with a failover vault",
		content: silent(10), targets: []target{p99.atMost(5000), failures.none()},
		run: crowd(20, 20, false),
	}}
}
