// Package storm is the morning after a power cut: a thousand simulated machines
// boot at the same time against real servers, one of which is killed half-way.
//
// It holds tests only; make storm runs them.
package storm
