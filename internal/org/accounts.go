package org

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/orgapi"
	"github.com/claviger/claviger/internal/store"
)

// accessRole is the role through which the management account enters an account
// that it made, unless it asked for another name.
const accessRole = "OrganizationAccountAccessRole"

// A creation is the record of one CreateAccount.
type creation struct {
	ID        string // car-…
	Name      string
	Account   string // empty if it failed
	Failure   string // why
	Requested time.Time
}

var creationKind = store.Kind[creation]{Tag: 24, Name: "account creation"}

func creationKey(organization, id string) string { return "o/creation/" + organization + "/" + id }

func (c *creation) wire() *orgapi.CreateAccountStatus {
	out := &orgapi.CreateAccountStatus{Id: &c.ID, AccountName: &c.Name, RequestedTimestamp: model.At(c.Requested),
		CompletedTimestamp: model.At(c.Requested), State: new(orgapi.CreateAccountStateSucceeded), AccountId: &c.Account}
	if c.Failure != "" {
		out.State, out.FailureReason, out.AccountId = new(orgapi.CreateAccountStateFailed), &c.Failure, nil
	}
	return out
}

// CreateAccount makes a member account with a role that the management account's
// principals can assume. It is done when it answers, where AWS takes a while.
func (s *Service) CreateAccount(ctx context.Context, call *iam.Call, in *orgapi.CreateAccountRequest) (*orgapi.CreateAccountResponse, error) {
	var out orgapi.CreateAccountResponse
	r := request{action: "CreateAccount", tags: setTags(in.Tags)}
	return &out, s.change(ctx, call, r, func(v *view) error {
		c := &creation{ID: newID("car-", 32), Name: *in.AccountName, Requested: call.Now}
		out.CreateAccountStatus = c.wire()
		emailTaken := orgapi.DuplicateAccountException("")
		switch err := v.take("email", strings.ToLower(*in.Email), c.ID, emailTaken); {
		case errors.Is(err, emailTaken):
			c.Failure = orgapi.CreateAccountFailureReasonEmailAlreadyExists
		case err != nil:
			return err
		default:
			if err := v.newAccount(c, in); err != nil {
				return err
			}
		}
		out.CreateAccountStatus = c.wire()
		return store.Put(v.tx, creationKind, creationKey(v.org.ID, c.ID), c)
	})
}

func (v *view) newAccount(c *creation, in *orgapi.CreateAccountRequest) (err error) {
	if c.Account, err = freeAccountID(v.tx); err != nil {
		return err
	}
	if err := iam.AddAccount(v.tx, iam.Account{ID: c.Account, Name: c.Name, Created: c.Requested}); err != nil {
		return err
	}
	if err := iam.AddAdministrator(v.tx, c.Account, model.Or(in.RoleName, accessRole), v.org.Management, c.Requested); err != nil {
		return err
	}
	if err := v.join(c.Account, c.Name, *in.Email, "CREATED", c.Requested); err != nil {
		return err
	}
	t, err := v.edit(c.Account)
	if err != nil {
		return err
	}
	if t.Tags, err = addTags(nil, in.Tags); err != nil {
		return err
	}
	return v.put(t)
}

// freeAccountID draws the id of an account that does not exist.
func freeAccountID(tx *store.Tx) (string, error) {
	for {
		id := fmt.Sprintf("%012d", 100_000_000_000+rand.Int64N(900_000_000_000))
		if _, err := iam.FindAccount(tx, id); errors.Is(err, store.ErrNotFound) {
			return id, nil
		} else if err != nil {
			return "", err
		}
	}
}

// DescribeCreateAccountStatus tells what became of a CreateAccount.
func (s *Service) DescribeCreateAccountStatus(ctx context.Context, call *iam.Call, in *orgapi.DescribeCreateAccountStatusRequest) (*orgapi.DescribeCreateAccountStatusResponse, error) {
	var out orgapi.DescribeCreateAccountStatusResponse
	return &out, s.read(ctx, call, request{action: "DescribeCreateAccountStatus"}, func(v *view) error {
		c, err := store.Get(v.tx, creationKind, creationKey(v.org.ID, *in.CreateAccountRequestId))
		if err != nil {
			return or(err, orgapi.CreateAccountStatusNotFoundException("We can't find a create account request with the CreateAccountRequestId that you specified."))
		}
		out.CreateAccountStatus = c.wire()
		return nil
	})
}

func noAccount() *model.Fault {
	return orgapi.AccountNotFoundException("You specified an account that doesn't exist.")
}

// CloseAccount ends an account: its principals may do nothing any more, and its
// keys serve nobody. AWS keeps it suspended for 90 days; here it stays so.
func (s *Service) CloseAccount(ctx context.Context, call *iam.Call, in *orgapi.CloseAccountRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, request{action: "CloseAccount", about: []string{*in.AccountId}}, func(v *view) error {
		return v.close(*in.AccountId)
	})
}

func (v *view) close(id string) error {
	if id == v.org.Management {
		return constraint(orgapi.ConstraintViolationExceptionReasonCannotCloseManagementAccount, "You can't close the management account.")
	}
	t, err := v.edit(id)
	if err != nil {
		return or(err, noAccount())
	}
	if t.Status != orgapi.AccountStatusActive {
		return orgapi.AccountAlreadyClosedException("The account is already closed.")
	}
	t.Status = orgapi.AccountStatusSuspended
	return v.put(t)
}

func (v *view) wireAccount(t *iam.Target) orgapi.Account {
	state := orgapi.AccountStateActive
	if t.Status == orgapi.AccountStatusSuspended {
		state = orgapi.AccountStateSuspended
	}
	return orgapi.Account{Id: &t.ID, Arn: new(targetARN(v.org, t.ID)), Email: &t.Email, Name: &t.Name, Status: &t.Status, State: &state,
		JoinedMethod: &t.JoinedMethod, JoinedTimestamp: model.At(t.Joined), Paths: []string{t.Path + t.ID + "/"}}
}

// DescribeAccount shows a member account.
func (s *Service) DescribeAccount(ctx context.Context, call *iam.Call, in *orgapi.DescribeAccountRequest) (*orgapi.DescribeAccountResponse, error) {
	var out orgapi.DescribeAccountResponse
	return &out, s.read(ctx, call, request{action: "DescribeAccount", about: []string{*in.AccountId}}, func(v *view) error {
		t, err := v.target(*in.AccountId)
		if err != nil {
			return or(err, noAccount())
		}
		out.Account = new(v.wireAccount(t))
		return nil
	})
}

// maxTargets bounds how many accounts or units are looked at.
const maxTargets = 100_000

// children collects the targets of a type that are directly under a parent, or
// anywhere if parent is empty, by id.
func (v *view) children(parent, kind string) (found []*iam.Target, err error) {
	prefix := "o/child/" + v.org.ID + "/"
	if parent != "" {
		prefix = childPrefix(v.org.ID, parent)
	}
	places, err := store.Collect(v.tx, placeKind, prefix, "", maxTargets, func(p *place) bool { return typeOf(p.ID) == kind })
	if err != nil {
		return nil, err
	}
	for _, p := range places {
		t, err := v.target(p.ID)
		if err != nil {
			return nil, err
		}
		found = append(found, t)
	}
	sortTargets(found)
	return found, nil
}

// listed shows one page of the targets of a type.
func (s *Service) listed(ctx context.Context, call *iam.Call, r request, parent, kind string, token *string, results *int32, show func(*view, *iam.Target)) (next *string, err error) {
	after, n, err := newPage(token, results)
	if err != nil {
		return nil, err
	}
	err = s.read(ctx, call, r, func(v *view) error {
		if parent != "" {
			if _, err := v.target(parent); err != nil || typeOf(parent) == accountType {
				return or(err, noParent())
			}
		}
		found, err := v.children(parent, kind)
		if err != nil {
			return err
		}
		found, next = paged(found, after, n, func(t *iam.Target) string { return t.ID })
		for _, t := range found {
			show(v, t)
		}
		return nil
	})
	return next, err
}

// ListAccounts lists the organization's accounts.
func (s *Service) ListAccounts(ctx context.Context, call *iam.Call, in *orgapi.ListAccountsRequest) (*orgapi.ListAccountsResponse, error) {
	out := &orgapi.ListAccountsResponse{Accounts: []orgapi.Account{}}
	next, err := s.listed(ctx, call, request{action: "ListAccounts"}, "", accountType, in.NextToken, in.MaxResults, func(v *view, t *iam.Target) {
		out.Accounts = append(out.Accounts, v.wireAccount(t))
	})
	out.NextToken = next
	return out, err
}

// ListAccountsForParent lists the accounts directly under a root or unit.
func (s *Service) ListAccountsForParent(ctx context.Context, call *iam.Call, in *orgapi.ListAccountsForParentRequest) (*orgapi.ListAccountsForParentResponse, error) {
	out := &orgapi.ListAccountsForParentResponse{Accounts: []orgapi.Account{}}
	r := request{action: "ListAccountsForParent", about: []string{*in.ParentId}}
	next, err := s.listed(ctx, call, r, *in.ParentId, accountType, in.NextToken, in.MaxResults, func(v *view, t *iam.Target) {
		out.Accounts = append(out.Accounts, v.wireAccount(t))
	})
	out.NextToken = next
	return out, err
}

// MoveAccount puts an account under another root or unit. Which policies bind it
// changes at once.
func (s *Service) MoveAccount(ctx context.Context, call *iam.Call, in *orgapi.MoveAccountRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, request{action: "MoveAccount", about: []string{*in.AccountId, *in.SourceParentId, *in.DestinationParentId}}, func(v *view) error {
		return v.move(*in.AccountId, *in.SourceParentId, *in.DestinationParentId)
	})
}

func (v *view) move(id, from, parent string) error {
	t, err := v.edit(id)
	if err != nil || !arn.IsAccount(id) {
		return or(err, noAccount())
	}
	if t.Parent != from {
		return orgapi.SourceParentNotFoundException("You specified a source parent that doesn't exist.")
	}
	to, err := v.target(parent)
	if err != nil || typeOf(parent) == accountType {
		return or(err, orgapi.DestinationParentNotFoundException("You specified a destination parent that doesn't exist."))
	}
	if to.ID == t.Parent {
		return orgapi.DuplicateAccountException("The account is already in the destination that you specified.")
	}
	v.tx.Delete(childKey(v.org.ID, t.Parent, t.ID))
	if err := v.count(t.Parent, -1); err != nil {
		return err
	}
	t.Parent, t.Path = to.ID, to.Path
	return v.add(t)
}

func setTags(tags []orgapi.Tag) authz.RequestTags {
	return authz.RequestTags{Set: authz.TagMap(tags, func(t orgapi.Tag) (string, string) { return *t.Key, *t.Value })}
}
