package secret

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// Sentinels on which callers branch; the types below are of one each.
var (
	ErrTampered     = errors.New("sealed secret was changed")
	ErrMoved        = errors.New("sealed secret is another one")
	ErrNotRecipient = errors.New("secret is not sealed to this identity")
	ErrSize         = errors.New("secret has a size that cannot be")
)

// TamperedError says that an envelope does not open although it is addressed
// to the identity: a byte, the name or the version is not what was sealed.
type TamperedError struct{ Version cluster.Version }

// Error implements error.
func (e *TamperedError) Error() string {
	return fmt.Sprintf("secret %s version %d was changed since it was sealed; seal it again: pilotlight secret put %s",
		e.Version.Name, e.Version.Version, e.Version.Name)
}

// Is makes a TamperedError an ErrTampered.
func (e *TamperedError) Is(target error) bool { return target == ErrTampered }

// MovedError says that an envelope of one version lies where another belongs.
type MovedError struct{ Expected, Found cluster.Version }

// Error implements error.
func (e *MovedError) Error() string {
	return fmt.Sprintf("where secret %s version %d belongs lies %s version %d; seal it again: pilotlight secret put %s",
		e.Expected.Name, e.Expected.Version, e.Found.Name, e.Found.Version, e.Expected.Name)
}

// Is makes a MovedError an ErrMoved.
func (e *MovedError) Is(target error) bool { return target == ErrMoved }

// RecipientError says that an envelope is not addressed to the identity.
type RecipientError struct {
	Version   cluster.Version
	Recipient string   // the identity's
	Sealed    []string // to whom it is sealed
}

// Error implements error.
func (e *RecipientError) Error() string {
	return fmt.Sprintf("secret %s version %d is sealed to %s, not to %s; a host that was introduced anew is sealed to again by the servers, otherwise: pilotlight secret put %s",
		e.Version.Name, e.Version.Version, strings.Join(e.Sealed, ", "), e.Recipient, e.Version.Name)
}

// Is makes a RecipientError an ErrNotRecipient.
func (e *RecipientError) Is(target error) bool { return target == ErrNotRecipient }

// SizeError says that a value is empty or longer than MaxSize.
type SizeError struct {
	Name cluster.SecretName
	Size int
}

// Error implements error.
func (e *SizeError) Error() string {
	if e.Size == 0 {
		return fmt.Sprintf("secret %s: the value is empty; pipe it in: pilotlight secret put %s < FILE", e.Name, e.Name)
	}
	return fmt.Sprintf("secret %s: the value has %d bytes, the most is %d; keep large files in a volume and their key in the secret", e.Name, e.Size, MaxSize)
}

// Is makes a SizeError an ErrSize.
func (e *SizeError) Is(target error) bool { return target == ErrSize }
