package docker

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"github.com/pilotlight/pilotlight/cluster"
)

// networkName is what the network of a site is called.
func networkName(site cluster.SiteName) string { return "pilotlight-" + string(site) }

// Networks implements agent.Engine.
func (e *Engine) Networks(ctx context.Context) ([]cluster.SiteName, error) {
	list, err := e.listNetworks(ctx, e.ours())
	if err != nil {
		return nil, err
	}
	var out []cluster.SiteName
	for _, n := range list {
		if site := n.Labels[LabelSite]; site != "" {
			out = append(out, cluster.SiteName(site))
		}
	}
	return out, nil
}

func (e *Engine) listNetworks(ctx context.Context, which filters.Args) ([]network.Summary, error) {
	list, err := e.api.NetworkList(ctx, network.ListOptions{Filters: which})
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	return list, nil
}

// RemoveNetwork implements agent.Engine.
func (e *Engine) RemoveNetwork(ctx context.Context, site cluster.SiteName) error {
	list, err := e.siteNetworks(ctx, site)
	if err != nil {
		return err
	}
	return e.removeNetworks(ctx, list)
}

func (e *Engine) removeNetworks(ctx context.Context, list []network.Summary) error {
	for _, n := range list {
		if err := e.api.NetworkRemove(ctx, n.ID); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove network %s: %w", n.Name, err)
		}
	}
	return nil
}

func (e *Engine) siteNetworks(ctx context.Context, site cluster.SiteName) ([]network.Summary, error) {
	which := e.ours()
	which.Add("label", LabelSite+"="+string(site))
	return e.listNetworks(ctx, which)
}

// ensureNetwork makes the network of a site unless it is there. Docker lets two
// networks have one name, and then starts no container in either; should there
// be two, all but one go.
func (e *Engine) ensureNetwork(ctx context.Context, site cluster.SiteName) error {
	e.making.Lock()
	defer e.making.Unlock()
	ours, err := e.siteNetworks(ctx, site)
	if err != nil {
		return err
	}
	if len(ours) > 0 {
		return e.removeNetworks(ctx, ours[1:])
	}
	name := networkName(site)
	named, err := e.listNetworks(ctx, filters.NewArgs(filters.Arg("name", name)))
	if err != nil {
		return err
	}
	for _, n := range named {
		if n.Name == name { // the filter takes parts of names, too
			return fmt.Errorf("network %s is there already and not this host's; remove it: docker network rm %s", name, name)
		}
	}
	_, err = e.api.NetworkCreate(ctx, name, network.CreateOptions{
		Driver: "bridge",
		Labels: map[string]string{LabelHost: string(e.host), LabelSite: string(site)},
	})
	if err != nil {
		return fmt.Errorf("make network %s: %w", name, err)
	}
	return nil
}
