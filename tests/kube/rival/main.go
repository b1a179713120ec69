// A rival candidate: client-go's leader election, unmodified, on a Lease that vipd is a candidate for, too.
//
// It tells what client-go tells it, one JSON object a line on stdout, with the seconds of CLOCK_BOOTTIME: that it
// started leading, that it stopped leading, who leads.  It runs until SIGTERM or SIGINT, or until it has lost the
// Lease: as every user of client-go it then has to be started again, as a new candidate.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
	"unsafe"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// clockBoottime is CLOCK_BOOTTIME of clock_gettime(2), the clock that Python's time.clock_gettime reads by this name.
const clockBoottime = 7

var telling sync.Mutex

// tell writes one line; the time is read before the lock is waited for.
func tell(event, leader string) {
	at := boottime()
	telling.Lock()
	defer telling.Unlock()
	line, err := json.Marshal(map[string]any{"at": at, "event": event, "leader": leader})
	if err == nil {
		_, err = fmt.Println(string(line))
	}
	if err != nil {
		fail("telling %s: %v", event, err)
	}
}

func boottime() float64 {
	var now syscall.Timespec
	_, _, number := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&now)), 0)
	if number != 0 {
		fail("clock_gettime(CLOCK_BOOTTIME): %v", number)
	}
	return float64(now.Sec) + float64(now.Nsec)/1e9
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "rival: "+format+"\n", values...)
	os.Exit(1)
}

// connection is what the kubeconfig says, and its token also where there is no TLS: clientcmd leaves it out there, and
// the API of vipd's lab speaks plain HTTP on loopback.
func connection(kubeconfig string) (*rest.Config, error) {
	file, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.NewDefaultClientConfig(*file, nil).ClientConfig()
	if err != nil {
		return nil, err
	}
	if user := file.AuthInfos[file.Contexts[file.CurrentContext].AuthInfo]; user != nil && config.BearerToken == "" {
		config.BearerToken = user.Token
	}
	return config, nil
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API")
	namespace := flag.String("namespace", "default", "of the Lease")
	name := flag.String("name", "", "of the Lease")
	identity := flag.String("identity", "", "of this candidate, unlike every other's")
	leaseDuration := flag.Duration("lease-duration", 15*time.Second, "whole seconds: others wait so long for a dead leader")
	renewDeadline := flag.Duration("renew-deadline", 10*time.Second, "a leader that cannot renew for so long stops leading")
	retryPeriod := flag.Duration("retry-period", 2*time.Second, "between attempts to renew; between a candidate's also jitter")
	release := flag.Bool("release-on-cancel", false, "give the Lease up when told to end")
	flag.Parse()

	config, err := connection(*kubeconfig)
	if err != nil {
		fail("%v", err)
	}
	config.ContentType = "application/json"
	config.AcceptContentTypes = "application/json"
	// As controller-runtime and kube-controller-manager do: a request that is not answered must not outlast the deadline.
	config.Timeout = *renewDeadline / 2
	// Short retry periods are more requests than the client's own limit, 5 a second, lets pass.
	config.QPS, config.Burst = 100, 100
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		fail("%v", err)
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: *namespace, Name: *name},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: *identity},
		},
		LeaseDuration:   *leaseDuration,
		RenewDeadline:   *renewDeadline,
		RetryPeriod:     *retryPeriod,
		ReleaseOnCancel: *release,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { tell("started leading", *identity) },
			OnStoppedLeading: func() { tell("stopped leading", *identity) },
			OnNewLeader:      func(leader string) { tell("new leader", leader) },
		},
	})
	if err != nil {
		fail("%v", err)
	}
	tell("candidate", *identity)
	elector.Run(ctx)
}
