package wire

import (
	"io"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// A metricSet is what /metrics shows. Its labels come from the tables of
// operations and the faults, so their number is bounded.
type metricSet struct {
	set       *metrics.Set
	decisions *metrics.PrometheusHistogram
}

// An outcome counts and times one operation's successes.
type outcome struct {
	count   *metrics.Counter
	seconds *metrics.PrometheusHistogram
}

// Upper bounds of the histograms' buckets, in seconds.
var (
	requestBuckets  = []float64{50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 50e-3, 250e-3, 1, 5}
	decisionBuckets = []float64{500e-9, 1e-6, 2e-6, 5e-6, 10e-6, 50e-6, 1e-3}
)

func newMetricSet(c Config, all []*service) *metricSet {
	m := &metricSet{set: metrics.NewSet()}
	m.decisions = m.set.NewPrometheusHistogramExt("claviger_decision_duration_seconds", decisionBuckets)
	for _, s := range all {
		for _, o := range s.operations {
			o.success = sync.OnceValue(func() *outcome { // what is never called is not shown
				labels := `{service="` + s.name + `",operation="` + o.name
				return &outcome{
					m.set.NewCounter("claviger_requests_total" + labels + `",code="OK"}`),
					m.set.NewPrometheusHistogramExt("claviger_request_duration_seconds"+labels+`"}`, requestBuckets),
				}
			})
		}
	}
	m.set.NewGauge("claviger_store_size_bytes", func() float64 { return float64(c.DB.Size()) })
	m.set.NewGauge("claviger_store_revision", func() float64 { return float64(c.DB.Head()) })
	m.set.NewGauge("claviger_store_memoised_records", func() float64 { return float64(c.DB.Memoised()) })
	m.set.NewGauge("claviger_store_writable", func() float64 {
		if c.DB.Err() != nil {
			return 0
		}
		return 1
	})
	m.set.NewGauge("claviger_clock_held", func() float64 {
		if c.KMS.ClockHeld() {
			return 1
		}
		return 0
	})
	m.set.NewGauge("claviger_audit_records_total", func() float64 { return float64(c.Log.Head().Sequence) })
	m.set.NewGauge("claviger_audit_writable", func() float64 {
		if c.Log.Err() != nil {
			return 0
		}
		return 1
	})
	if c.Connections != nil {
		m.set.NewGauge("claviger_connections_open", func() float64 { return float64(c.Connections.Open()) })
		m.set.NewGauge("claviger_connections_refused_total", func() float64 { return float64(c.Connections.Refused()) })
	}
	for _, copier := range c.Copies {
		m.set.NewGauge(`claviger_audit_copies_sent_total{to="`+copier.Name()+`"}`, func() float64 { return float64(copier.Sent()) })
		m.set.NewGauge(`claviger_audit_copies_dropped_total{to="`+copier.Name()+`"}`, func() float64 { return float64(copier.Dropped()) })
	}
	return m
}

func (m *metricSet) decision(d time.Duration) { m.decisions.Update(d.Seconds()) }

// done counts a request; code is empty for success.
func (m *metricSet) done(x *exchange, code string) {
	name := "unknown"
	if x.operation != nil {
		name = x.operation.name
		if x.operation.success != nil {
			o := x.operation.success()
			o.seconds.UpdateDuration(x.begin)
			if code == "" {
				o.count.Inc()
				return
			}
		}
	}
	m.set.GetOrCreateCounter(`claviger_requests_total{service="` + x.service.name + `",operation="` + name + `",code="` + code + `"}`).Inc()
}

func (m *metricSet) render(w io.Writer) {
	m.set.WritePrometheus(w)
	metrics.WriteProcessMetrics(w)
}
