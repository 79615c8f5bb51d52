package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/ovlnet/ovl/internal/build"
)

// NewRegistry returns a registry that holds what every Go program has to tell,
// and the build's version.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	b := build.Version()
	promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{
		Name: nameBuildInfo, Help: "What the program was built from; always 1.",
	}, []string{"version", "commit", "go"}).WithLabelValues(b.Version, b.Commit, b.Go).Set(1)
	return reg
}

// Agent holds the metrics of ovl-agent. All methods of the metrics are safe for
// concurrent use.
type Agent struct {
	Passes         *prometheus.CounterVec // result
	PassSeconds    prometheus.Histogram
	Ops            *prometheus.CounterVec // table, verb, result
	Rows           prometheus.Gauge
	RowsNotDone    *prometheus.GaugeVec // condition
	StoreConnected prometheus.Gauge
	Attachments    prometheus.Gauge
	Subnets        *prometheus.GaugeVec   // network
	Problems       *prometheus.GaugeVec   // severity
	Questions      *prometheus.CounterVec // outcome
	DockerCalls    *prometheus.CounterVec // call, result
}

// NewAgent registers the agent's metrics.
func NewAgent(reg prometheus.Registerer) *Agent {
	f := promauto.With(reg)
	return &Agent{
		Passes: f.NewCounterVec(prometheus.CounterOpts{
			Name: namePasses, Help: "Passes of the loop.",
		}, []string{"result"}),
		PassSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: namePassSeconds, Help: "Time of one pass.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14), // 1 ms to 8 s
		}),
		Ops: f.NewCounterVec(prometheus.CounterOpts{
			Name: nameOps, Help: "Operations on the kernel.",
		}, []string{"table", "verb", "result"}),
		Rows: f.NewGauge(prometheus.GaugeOpts{
			Name: nameRows, Help: "Rows that this host should have.",
		}),
		RowsNotDone: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: nameRowsNotDone, Help: "Rows that are failed, blocked or contended.",
		}, []string{"condition"}),
		StoreConnected: f.NewGauge(prometheus.GaugeOpts{
			Name: nameStoreConnected, Help: "1 while the store answers.",
		}),
		Attachments: f.NewGauge(prometheus.GaugeOpts{
			Name: nameAttachments, Help: "Containers attached on this host.",
		}),
		Subnets: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: nameSubnets, Help: "Subnets that this host holds.",
		}, []string{"network"}),
		Problems: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: nameProblems, Help: "Problems of this host.",
		}, []string{"severity"}),
		Questions: f.NewCounterVec(prometheus.CounterOpts{
			Name: nameQuestions, Help: "Questions of containers about names.",
		}, []string{"outcome"}),
		DockerCalls: f.NewCounterVec(prometheus.CounterOpts{
			Name: nameDockerCalls, Help: "What a container engine asked of its plugin.",
		}, []string{"call", "result"}),
	}
}

// Controller holds the metrics of ovl-controller.
type Controller struct {
	calls       *prometheus.CounterVec   // method, code
	callSeconds *prometheus.HistogramVec // method
}

// NewController registers the controller's metrics.
func NewController(reg prometheus.Registerer) *Controller {
	f := promauto.With(reg)
	return &Controller{
		calls: f.NewCounterVec(prometheus.CounterOpts{
			Name: nameCalls, Help: "Calls answered.",
		}, []string{"method", "code"}),
		callSeconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: nameCallSeconds, Help: "Time to answer a call that is no stream.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15), // 0.5 ms to 8 s
		}, []string{"method"}),
	}
}

// Answered counts one call. Only methods that exist may be given: a label made
// of what a client sent would grow without bound.
func (c *Controller) Answered(method, code string, took time.Duration, stream bool) {
	c.calls.WithLabelValues(method, code).Inc()
	if !stream {
		c.callSeconds.WithLabelValues(method).Observe(took.Seconds())
	}
}
