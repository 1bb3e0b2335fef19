package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
)

// configure writes the files that the node's processes read.
func (n *Node) configure() error {
	for _, dir := range []string{"log", "kubelet", "cni"} {
		if err := os.MkdirAll(filepath.Join(n.Dir, dir), 0o755); err != nil {
			return err
		}
	}
	// restrict_oom_score_adj: runc fails where it may not lower the score. disable_apparmor: a
	// profile would stay in the machine's kernel.
	containerd := fmt.Sprintf(`version = 2
root = "%[1]s/containerd/root"
state = "%[1]s/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "%[1]s/containerd.sock"
[ttrpc]
  address = "%[1]s/containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "e2e.local/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "%[2]s"
    conf_dir = "%[1]s/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
`, n.Dir, cniDir())
	cni := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "e2e", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": "%s"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
`, pods)
	kubelet := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
cgroupRoot: %s
failSwapOn: false
resolvConf: %s/resolv.conf # the machine's may be in its /run
clusterDNS: [10.96.0.10] # no server is there; without one kubelet warns of each pod
containerRuntimeEndpoint: unix://%s
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %s/ca.crt}}
authorization: {mode: Webhook}
makeIPTablesUtilChains: false
evictionHard: {memory.available: 50Mi, nodefs.available: 1%%, imagefs.available: 1%%}
imageGCHighThresholdPercent: 100
# How often kubelet calls the driver for a mounted volume, which is what rotates it.
syncFrequency: 5s
nodeStatusUpdateFrequency: 2s
`, cgroup, n.Dir, n.socket(), n.pki())
	if _, v2 := hierarchies(); !v2 && n.Version != "1.34" {
		kubelet += "failCgroupV1: false\n" // since 1.35 kubelet refuses v1 by default
	}
	for file, text := range map[string]string{"containerd.toml": containerd, "cni/10-bridge.conflist": cni, "kubelet.yaml": kubelet, "resolv.conf": "nameserver 127.0.0.1\n"} {
		if err := os.WriteFile(filepath.Join(n.Dir, file), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// runNode is the node's PID 1: it mounts, starts everything, and starts again what ends. It
// returns on an error only, and the process ends when the other end of its stdin closes.
func runNode() error {
	var n Node
	if err := json.Unmarshal([]byte(os.Getenv("AKV_E2E_NODE")), &n); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if err := n.mounts(); err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	s := &supervisor{delay: restartDelay, log: os.Stderr, running: map[int]service{}}
	for _, v := range n.services() {
		if !s.start(v) {
			return fmt.Errorf("%s does not start", v.name)
		}
	}
	if err := n.images(); err != nil { // before kubelet takes the first pod
		return err
	}
	if err := os.WriteFile(filepath.Join(n.Dir, "started"), nil, 0o600); err != nil {
		return err
	}
	return s.run(nil, n.kubelet())
}

// restartDelay is shorter than the 5 and 10 s of containerd's and kubelet's units: a test waits.
const restartDelay = 500 * time.Millisecond

// mounts makes for the node a new /run, as after a boot, and copies of what it writes to:
// /etc, /var/lib and /var/log stay as they are for the machine.
func (n *Node) mounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("/run: %w", err)
	}
	for _, dir := range []string{"etc", "var/lib", "var/log"} { // not /var/tmp, where n.Dir is
		upper, work := filepath.Join(n.Dir, "changed", dir), filepath.Join(n.Dir, "work", dir)
		for _, d := range []string{upper, work} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		if err := unix.Mount("overlay", "/"+dir, "overlay", 0, fmt.Sprintf("lowerdir=/%s,upperdir=%s,workdir=%s", dir, upper, work)); err != nil {
			return fmt.Errorf("/%s: %w", dir, err)
		}
	}
	if err := os.MkdirAll("/var/lib/kubelet", 0o755); err != nil {
		return err
	}
	if err := unix.Mount(filepath.Join(n.Dir, "kubelet"), "/var/lib/kubelet", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("/var/lib/kubelet: %w", err)
	}
	// The driver mounts volumes from inside its container: the way back to kubelet.
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

// service is a program that writes to a log of its name. It is not waited for: PID 1 reaps
// everything.
func (n *Node) service(program string, args ...string) service {
	name := filepath.Base(program)
	return service{name: name, start: func() (int, error) {
		log, err := os.OpenFile(filepath.Join(n.Dir, "log", name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return 0, err
		}
		defer func() { _ = log.Close() }()
		cmd := exec.Command(program, args...)
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	}}
}

// services are all but kubelet.
func (n *Node) services() []service {
	p, kubernetes := n.pki(), filepath.Join(n.Programs, "kubernetes-"+n.Version)
	etcd := "http://127.0.0.1:2379"
	return []service{
		n.service(filepath.Join(n.Programs, "etcd"), "--data-dir="+filepath.Join(n.Dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
			"--listen-client-urls="+etcd, "--advertise-client-urls="+etcd,
			"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380", "--initial-cluster=default=http://127.0.0.1:2380"),
		n.service("containerd", "--config="+filepath.Join(n.Dir, "containerd.toml")),
		n.service(filepath.Join(kubernetes, "kube-apiserver"), "--etcd-servers="+etcd,
			"--bind-address="+apiServer, "--secure-port=443", "--advertise-address="+address, "--service-cluster-ip-range="+services,
			"--tls-cert-file="+p+"/apiserver.crt", "--tls-private-key-file="+p+"/apiserver.key", "--client-ca-file="+p+"/ca.crt",
			"--kubelet-client-certificate="+p+"/apiserver-kubelet-client.crt", "--kubelet-client-key="+p+"/apiserver-kubelet-client.key",
			"--kubelet-preferred-address-types=InternalIP",
			"--service-account-issuer="+Issuer, "--service-account-signing-key-file="+p+"/sa.key", "--service-account-key-file="+p+"/sa.pub",
			"--authorization-mode=Node,RBAC", "--allow-privileged=true", "--enable-admission-plugins=NodeRestriction",
			"--endpoint-reconciler-type=none", "--profiling=false"),
		n.service(filepath.Join(kubernetes, "kube-controller-manager"), "--kubeconfig="+p+"/controller-manager.kubeconfig",
			"--service-account-private-key-file="+p+"/sa.key", "--root-ca-file="+p+"/ca.crt", "--use-service-account-credentials=true",
			"--leader-elect=false", "--bind-address=127.0.0.1"),
		n.service(filepath.Join(kubernetes, "kube-scheduler"), "--kubeconfig="+p+"/scheduler.kubeconfig",
			"--leader-elect=false", "--bind-address=127.0.0.1"),
	}
}

func (n *Node) kubelet() service {
	v := n.service(filepath.Join(n.Programs, "kubernetes-"+n.Version, "kubelet"), "--config="+filepath.Join(n.Dir, "kubelet.yaml"),
		"--kubeconfig="+filepath.Join(n.pki(), "kubelet.kubeconfig"), "--hostname-override="+Name, "--node-ip="+address)
	v.ready = n.serving
	return v
}

// serving sends containerd what kubelet sends first. containerd listens before its CRI answers.
func (n *Node) serving() error {
	conn, err := grpc.NewClient("unix:"+n.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	// Neither message of the call has a field that is needed here.
	return conn.Invoke(ctx, "/runtime.v1.RuntimeService/Version", &emptypb.Empty{}, &emptypb.Empty{})
}

// images waits for containerd and imports the archives, the first time.
func (n *Node) images() error {
	done := filepath.Join(n.Dir, "imported")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := n.serving()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("containerd does not serve the CRI: %w", err)
		}
	}
	for _, archive := range n.Images {
		if out, err := exec.Command("ctr", "--address="+n.socket(), "--namespace=k8s.io", "images", "import", archive).CombinedOutput(); err != nil {
			return fmt.Errorf("import %s: %w\n%s", archive, err, out)
		}
	}
	return os.WriteFile(done, nil, 0o600)
}
