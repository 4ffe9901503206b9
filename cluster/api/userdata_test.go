package api

import (
	"errors"
	"net/http"
	"testing"
	"time"
)

// TestUserdata: an operator gets it, under their name; nobody else, and no GET.
func TestUserdata(t *testing.T) {
	r := newRig(t)
	out, err := r.admin().Userdata(t.Context(), "web1", UserdataRequest{For: "ec2", Life: time.Minute})
	if err != nil || out.Host != "web1" || string(out.Pointer) != "ec2 for operator:admin" {
		t.Errorf("%+v, %v", out, err)
	}
	var status *StatusError
	if _, err := r.admin().Userdata(t.Context(), "web1", UserdataRequest{Life: 2 * time.Hour}); !errors.As(err, &status) || status.Status != http.StatusBadRequest {
		t.Error(err)
	}
	if _, err := r.client().Userdata(t.Context(), "web1", UserdataRequest{For: "ec2"}); !errors.As(err, &status) || status.Status != http.StatusForbidden {
		t.Errorf("a stranger: %v", err)
	}
	if err := r.admin().call(t.Context(), http.MethodGet, "/v1/hosts/web1/userdata", nil, &out); err == nil {
		t.Error("a GET makes a token")
	}
}

// TestRevokeUserdata: an operator revokes it, under their name; nobody else.
func TestRevokeUserdata(t *testing.T) {
	r := newRig(t)
	if n, err := r.admin().RevokeUserdata(t.Context(), "web1"); err != nil || n != len("web1")+len("operator:admin") {
		t.Errorf("%d, %v", n, err)
	}
	var status *StatusError
	if _, err := r.client().RevokeUserdata(t.Context(), "web1"); !errors.As(err, &status) || status.Status != http.StatusForbidden {
		t.Errorf("a stranger: %v", err)
	}
}
