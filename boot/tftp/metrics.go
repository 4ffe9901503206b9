package tftp

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	transfers *prometheus.CounterVec
	bytes     prometheus.Counter
	seconds   prometheus.Histogram
	running   prometheus.Gauge
	window    prometheus.Histogram
	windows   prometheus.Counter
	resent    prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		transfers: f.NewCounterVec(prometheus.CounterOpts{
			Name: "pilotlight_tftp_transfers_total", Help: "TFTP read requests, by outcome.",
		}, []string{"outcome"}),
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: "pilotlight_tftp_sent_bytes_total", Help: "Bytes of files that were sent whole over TFTP.",
		}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "pilotlight_tftp_transfer_seconds", Help: "Time that a whole TFTP transfer took.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
		running: f.NewGauge(prometheus.GaugeOpts{
			Name: "pilotlight_tftp_transfers_running", Help: "TFTP transfers under way.",
		}),
		window: f.NewHistogram(prometheus.HistogramOpts{
			Name: "pilotlight_tftp_window_blocks", Help: "Blocks that a transfer sends before one is acknowledged, as agreed with its client.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64},
		}),
		windows: f.NewCounter(prometheus.CounterOpts{
			Name: "pilotlight_tftp_windows_total", Help: "Windows sent over TFTP; of one block each where no other size was agreed.",
		}),
		resent: f.NewCounter(prometheus.CounterOpts{
			Name: "pilotlight_tftp_retransmitted_blocks_total", Help: "Blocks sent again over TFTP.",
		}),
	}
}

// outcome counts how a read request ended.
func (m *metrics) outcome(is string) { m.transfers.WithLabelValues(is).Inc() }

// sent counts what a transfer sent, and what it took if the file came whole.
func (m *metrics) sent(t *transfer, outcome string, took time.Duration) {
	m.outcome(outcome)
	m.window.Observe(float64(t.window))
	m.windows.Add(float64(t.windows))
	m.resent.Add(float64(t.resent))
	if outcome == outcomeSent {
		m.bytes.Add(float64(t.size))
		m.seconds.Observe(took.Seconds())
	}
}
