package cluster

// MatchboxType is a type of the objects that matchbox's API carries.
type MatchboxType string

// The types.
const (
	MatchboxGroup    MatchboxType = "group"
	MatchboxProfile  MatchboxType = "profile"
	MatchboxIgnition MatchboxType = "ignition"
	MatchboxGeneric  MatchboxType = "generic"
)

// Matchbox is an object that came by matchbox's API (serve --matchbox-grpc), as it
// came: the other documents are made of it, and matchbox's clients are given it back.
type Matchbox struct {
	Meta
	Type MatchboxType `json:"type"`           // group, profile, ignition or generic
	ID   string       `json:"id"`             // as matchbox's clients name it
	Body string       `json:"body,omitempty"` // a group or profile as JSON, or the text of a template
	Pins []File       `json:"pins,omitempty"` // what its kernel and initial RAM disks were when it came
}

func (c *checker) matchbox(d *Matchbox) {
	oneOf(c, "type", d.Type, MatchboxGroup, MatchboxProfile, MatchboxIgnition, MatchboxGeneric)
	if d.Type == "" || d.ID == "" {
		c.add("type", "or id is missing: such documents are made by matchbox's API; write network, image, profile, group and host")
	}
}
