package iam

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"rsc.io/qr"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// maxMFADevices is how many devices a user may have.
const maxMFADevices = 8

// An MFADevice is a virtual MFA device: a secret that makes one-time codes.
type MFADevice struct {
	Serial   string // its ARN
	Account  string
	Seed     []byte
	User     string `json:",omitzero"` // name of the user it is enabled for
	UserID   string `json:",omitzero"`
	Enabled  time.Time
	LastStep int64     // of the last code that was accepted; no code is accepted twice
	Failures int       // wrong codes in a row
	Closed   time.Time // until when no code is looked at
	Tags     []Tag
}

// Wrong codes close a device for a while, so that nobody finds one by trying: one
// second after the fifth in a row, doubled with each further one up to an hour.
const (
	freeFailures = 5
	longestClose = time.Hour
)

// accept reports whether a code is the device's now, and notes that it was used, or
// that it was wrong.
func (d *MFADevice) accept(code string, now time.Time) bool {
	if now.Before(d.Closed) {
		return false
	}
	step, ok := totpStep(d.Seed, code, now, codeWindow)
	if !ok || step <= d.LastStep {
		d.Failures++
		if over := d.Failures - freeFailures; over >= 0 {
			d.Closed = now.Add(min(time.Second<<min(over, 12), longestClose))
		}
		return false
	}
	d.LastStep, d.Failures = step, 0
	return true
}

var mfaKind = store.Kind[MFADevice]{Tag: 16, Name: "MFA device"}

func mfaKey(serial string) string { return "i/mfa/" + serial }

func noDevice(serial string) error {
	return iamapi.NoSuchEntityException("MFA Device with serial number " + serial + " does not exist.")
}

// CreateVirtualMFADevice makes a device and shows its secret this once.
func (s *Service) CreateVirtualMFADevice(ctx context.Context, call *Call, in *iamapi.CreateVirtualMFADeviceRequest) (*iamapi.CreateVirtualMFADeviceResponse, error) {
	path := model.Or(in.Path, "/")
	if !strings.HasPrefix(path, "/") || !strings.HasSuffix(path, "/") {
		return nil, ValidationError("The specified value for path is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters.")
	}
	d := &MFADevice{Serial: arn.IAM(Partition, call.Account(), "mfa"+path+*in.VirtualMFADeviceName), Account: call.Account(), Seed: make([]byte, 40)}
	_, _ = rand.Read(d.Seed) // never fails
	seed := base32.StdEncoding.EncodeToString(d.Seed)
	code, err := qr.Encode("otpauth://totp/"+url.PathEscape(*in.VirtualMFADeviceName+"@"+call.Account())+"?secret="+seed+"&issuer=Claviger", qr.M)
	if err != nil {
		return nil, err
	}
	out := &iamapi.CreateVirtualMFADeviceResponse{VirtualMFADevice: &iamapi.VirtualMFADevice{
		SerialNumber: &d.Serial, Base32StringSeed: []byte(seed), QRCodePNG: code.PNG(), Tags: in.Tags}}
	return out, call.Update(ctx, s.db, func(tx *store.Tx) error {
		tx.OnlyCreates()
		if err := s.allow(tx, call, policy.MustAction("iam:CreateVirtualMFADevice"), d.Serial, &conditions{tags: setTags(in.Tags)}); err != nil {
			return err
		}
		if _, err := store.Get(tx, mfaKind, mfaKey(d.Serial)); err == nil {
			return iamapi.EntityAlreadyExistsException("MFA device already exists.")
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		var err error
		if d.Tags, err = addTags(nil, in.Tags); err != nil {
			return err
		}
		return store.Put(tx, mfaKind, mfaKey(d.Serial), d)
	})
}

// device returns a copy of one of the account's devices.
func device(tx *store.Tx, call *Call, serial string) (*MFADevice, error) {
	d, err := store.Edit(tx, mfaKind, mfaKey(serial))
	if errors.Is(err, store.ErrNotFound) || err == nil && d.Account != call.Account() {
		return nil, noDevice(serial)
	}
	return d, err
}

// EnableMFADevice gives a user a device, which two codes in a row prove is at
// hand.
func (s *Service) EnableMFADevice(ctx context.Context, call *Call, in *iamapi.EnableMFADeviceRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, policy.MustAction("iam:EnableMFADevice"), UserClass, *in.UserName, nil, func(tx *store.Tx, e *Entity) error {
		d, err := device(tx, call, *in.SerialNumber)
		switch {
		case err != nil:
			return err
		case d.UserID != "":
			return iamapi.EntityAlreadyExistsException("MFA Device is already in use.")
		case len(e.MFADevices) == maxMFADevices:
			return iamapi.LimitExceededException("Cannot exceed quota for MfaDevicesPerUser: 8")
		}
		first, ok := totpStep(d.Seed, *in.AuthenticationCode1, call.Now, enableWindow)
		if !ok || first <= d.LastStep || totp(d.Seed, first+1) != *in.AuthenticationCode2 {
			return iamapi.InvalidAuthenticationCodeException("Authentication code for device is not valid")
		}
		d.User, d.UserID, d.Enabled, d.LastStep = e.Name, e.ID, call.Now, first+1
		e.MFADevices = append(e.MFADevices, d.Serial)
		return store.Put(tx, mfaKind, mfaKey(d.Serial), d)
	})
}

// DeactivateMFADevice takes a device from a user.
func (s *Service) DeactivateMFADevice(ctx context.Context, call *Call, in *iamapi.DeactivateMFADeviceRequest) (*struct{}, error) {
	name, err := call.userName(in.UserName)
	if err != nil {
		return nil, err
	}
	return nil, s.change(ctx, call, policy.MustAction("iam:DeactivateMFADevice"), UserClass, name, nil, func(tx *store.Tx, e *Entity) error {
		d, err := device(tx, call, *in.SerialNumber)
		if err != nil {
			return err
		}
		return deactivate(tx, e, d)
	})
}

// deactivate takes a device from its user, whom the caller stores.
func deactivate(tx *store.Tx, e *Entity, d *MFADevice) error {
	if d.UserID != e.ID {
		return noDevice(d.Serial)
	}
	d.User, d.UserID, d.Enabled = "", "", time.Time{}
	e.MFADevices = slices.DeleteFunc(e.MFADevices, func(serial string) bool { return serial == d.Serial })
	return store.Put(tx, mfaKind, mfaKey(d.Serial), d)
}

// DeleteVirtualMFADevice removes a device that no user has.
func (s *Service) DeleteVirtualMFADevice(ctx context.Context, call *Call, in *iamapi.DeleteVirtualMFADeviceRequest) (*struct{}, error) {
	return nil, call.Update(ctx, s.db, func(tx *store.Tx) error {
		if err := s.allow(tx, call, policy.MustAction("iam:DeleteVirtualMFADevice"), *in.SerialNumber, nil); err != nil {
			return err
		}
		d, err := device(tx, call, *in.SerialNumber)
		if err != nil {
			return err
		}
		if d.UserID != "" {
			return iamapi.DeleteConflictException("Cannot delete entity, must deactivate the MFA device first.")
		}
		tx.Delete(mfaKey(d.Serial))
		return nil
	})
}

// ListMFADevices lists a user's devices.
func (s *Service) ListMFADevices(ctx context.Context, call *Call, in *iamapi.ListMFADevicesRequest) (*iamapi.ListMFADevicesResponse, error) {
	name, err := call.userName(in.UserName)
	if err != nil {
		return nil, err
	}
	p, err := newPage(in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListMFADevicesResponse{}
	return out, s.read(ctx, call, policy.MustAction("iam:ListMFADevices"), UserClass, name, func(tx *store.Tx, e *Entity) error {
		out.MFADevices = []iamapi.MFADevice{}
		var serials []string
		serials, out.IsTruncated, out.Marker = cutAfter(p, e.MFADevices, func(serial string) string { return serial })
		for _, serial := range serials {
			d, err := store.Get(tx, mfaKind, mfaKey(serial))
			if err != nil {
				return err
			}
			out.MFADevices = append(out.MFADevices, iamapi.MFADevice{UserName: &e.Name, SerialNumber: &d.Serial, EnableDate: model.At(d.Enabled)})
		}
		return nil
	})
}

// AuthenticateMFA checks a one-time code of the calling user's device, and lets
// the call go on as one with a second factor. A code is accepted once.
func (c *Call) AuthenticateMFA(ctx context.Context, db *store.DB, serial, code *string) error {
	if serial == nil && code == nil {
		return nil
	}
	wrongDevice := AccessDenied("MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.")
	if serial == nil || code == nil {
		return AccessDenied("MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.")
	}
	accepted := false
	err := c.Update(ctx, db, func(tx *store.Tx) error {
		who, err := c.Who(tx)
		if err != nil {
			return err
		}
		d, err := store.Edit(tx, mfaKind, mfaKey(*serial))
		if errors.Is(err, store.ErrNotFound) || err == nil && (d.UserID == "" || d.UserID != who.EntityID || who.Kind != policy.User) {
			return wrongDevice
		}
		if err != nil {
			return err
		}
		accepted = d.accept(*code, c.Now)
		return store.Put(tx, mfaKind, mfaKey(d.Serial), d) // a wrong one is noted too
	})
	switch {
	case err != nil:
		return err
	case !accepted:
		return AccessDenied("MultiFactorAuthentication failed with invalid MFA one time pass code.")
	}
	c.MFA = c.Now
	return nil
}
