package dhcp

import (
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	in        *prometheus.CounterVec
	out       *prometheus.CounterVec
	drop      *prometheus.CounterVec
	leased    prometheus.Counter
	conflicts prometheus.Counter
	probes    *prometheus.CounterVec
	failed    prometheus.Counter
	commits   prometheus.Histogram
	foreign   *prometheus.CounterVec
	rivals    *prometheus.GaugeVec
	harms     *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		foreign: f.NewCounterVec(prometheus.CounterOpts{
			Name: "pilotlight_dhcp_foreign_answers_total", Help: "Answers of other DHCP servers that were seen, or that a client said it took, by network.",
		}, []string{"network"}),
		rivals: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pilotlight_dhcp_other_servers", Help: "Other DHCP servers that were seen in the last hour, by network.",
		}, []string{"network"}),
		harms: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pilotlight_dhcp_other_servers_conflicts", Help: "What other DHCP servers do, or leave undone, that is in the way of a boot; pilotlight explain says what.",
		}, []string{"network"}),
		in: f.NewCounterVec(prometheus.CounterOpts{
			Name: "pilotlight_dhcp_received_total", Help: "DHCP messages received, by type.",
		}, []string{"type"}),
		out: f.NewCounterVec(prometheus.CounterOpts{
			Name: "pilotlight_dhcp_answered_total", Help: "DHCP messages answered, by type of the answer.",
		}, []string{"type"}),
		drop: f.NewCounterVec(prometheus.CounterOpts{
			Name: "pilotlight_dhcp_dropped_total", Help: "DHCP packets dropped, by reason.",
		}, []string{"reason"}),
		leased: f.NewCounter(prometheus.CounterOpts{
			Name: "pilotlight_dhcp_leases_written_total", Help: "Leases made durable and acknowledged.",
		}),
		probes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "pilotlight_dhcp_probes_total", Help: "Addresses that were looked for before they were offered, by result: free, taken, failed, or skipped because there were too many.",
		}, []string{"result"}),
		conflicts: f.NewCounter(prometheus.CounterOpts{
			Name: "pilotlight_dhcp_conflicts_total", Help: "Transactions in which another server had been faster.",
		}),
		failed: f.NewCounter(prometheus.CounterOpts{
			Name: "pilotlight_dhcp_leases_failed_total", Help: "Leases that could not be made durable and were not acknowledged.",
		}),
		commits: f.NewHistogram(prometheus.HistogramOpts{
			Name: "pilotlight_dhcp_commit_seconds", Help: "Time that a transaction of leases takes.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5},
		}),
	}
}

func (m *metrics) received(t dhcpv4.MessageType) { m.in.WithLabelValues(label(t)).Inc() }
func (m *metrics) answered(t dhcpv4.MessageType) { m.out.WithLabelValues(label(t)).Inc() }
func (m *metrics) probed(result string)          { m.probes.WithLabelValues(result).Inc() }
func (m *metrics) dropped(reason string)         { m.drop.WithLabelValues(reason).Inc() }

// label keeps a stranger from making up any number of labels.
func label(t dhcpv4.MessageType) string {
	if t > dhcpv4.MessageTypeInform {
		return "other"
	}
	return strings.ToLower(t.String())
}
