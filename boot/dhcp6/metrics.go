package dhcp6

import (
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	in        *prometheus.CounterVec
	out       *prometheus.CounterVec
	drop      *prometheus.CounterVec
	leased    prometheus.Counter
	conflicts prometheus.Counter
	failed    prometheus.Counter
	commits   prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		in: f.NewCounterVec(prometheus.CounterOpts{
			Name: "pilotlight_dhcp6_received_total", Help: "DHCPv6 messages received, by type.",
		}, []string{"type"}),
		out: f.NewCounterVec(prometheus.CounterOpts{
			Name: "pilotlight_dhcp6_answered_total", Help: "DHCPv6 messages answered, by type of the answer.",
		}, []string{"type"}),
		drop: f.NewCounterVec(prometheus.CounterOpts{
			Name: "pilotlight_dhcp6_dropped_total", Help: "DHCPv6 packets dropped, by reason.",
		}, []string{"reason"}),
		leased: f.NewCounter(prometheus.CounterOpts{
			Name: "pilotlight_dhcp6_leases_written_total", Help: "IPv6 leases made durable and told to their machines.",
		}),
		conflicts: f.NewCounter(prometheus.CounterOpts{
			Name: "pilotlight_dhcp6_conflicts_total", Help: "Transactions in which another server had been faster.",
		}),
		failed: f.NewCounter(prometheus.CounterOpts{
			Name: "pilotlight_dhcp6_leases_failed_total", Help: "IPv6 leases that could not be made durable and were not told.",
		}),
		commits: f.NewHistogram(prometheus.HistogramOpts{
			Name: "pilotlight_dhcp6_commit_seconds", Help: "Time that a transaction of IPv6 leases takes.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5},
		}),
	}
}

func (m *metrics) received(t dhcpv6.MessageType) { m.in.WithLabelValues(label(t)).Inc() }
func (m *metrics) answered(t dhcpv6.MessageType) { m.out.WithLabelValues(label(t)).Inc() }
func (m *metrics) dropped(reason string)         { m.drop.WithLabelValues(reason).Inc() }

// label keeps a stranger from making up any number of labels.
func label(t dhcpv6.MessageType) string {
	if t > dhcpv6.MessageTypeInformationRequest {
		return "other"
	}
	return strings.ToLower(t.String())
}
