package iam

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

func wireUser(e *Entity) *iamapi.User {
	return &iamapi.User{
		Path: &e.Path, UserName: &e.Name, UserId: &e.ID, Arn: new(e.ARN()), CreateDate: model.At(e.Created),
		PermissionsBoundary: wireBoundary(e), Tags: wireTags(e.Tags),
	}
}

func wireBoundary(e *Entity) *iamapi.AttachedPermissionsBoundary {
	if e.Boundary == "" {
		return nil
	}
	return &iamapi.AttachedPermissionsBoundary{PermissionsBoundaryArn: &e.Boundary, PermissionsBoundaryType: new("Policy")}
}

// create makes an entity after checking that its name is free.
func (s *Service) create(tx *store.Tx, call *Call, action policy.Action, e *Entity, tags []iamapi.Tag, boundary string) error {
	if err := s.allowCreate(tx, call, action, e, tags, boundary); err != nil {
		return err
	}
	_, err := FindEntity(tx, e.Account, e.Class, e.Name)
	if err == nil {
		return alreadyExists(e)
	}
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if e.Tags, err = addTags(nil, tags); err != nil {
		return err
	}
	if boundary != "" {
		if err := setBoundary(tx, e, boundary); err != nil {
			return err
		}
	}
	return addEntity(tx, e)
}

// allowCreate authorizes making an entity; tags need their own permission.
func (s *Service) allowCreate(tx *store.Tx, call *Call, action policy.Action, e *Entity, tags []iamapi.Tag, boundary string) error {
	more := &conditions{boundary: boundary, tags: setTags(tags)}
	err := s.allow(tx, call, action, e.ARN(), more)
	if err == nil && len(tags) > 0 {
		err = s.allow(tx, call, tagActions[e.Class], e.ARN(), more)
	}
	return err
}

var tagActions = map[Class]policy.Action{UserClass: policy.MustAction("iam:TagUser"), RoleClass: policy.MustAction("iam:TagRole")}

func alreadyExists(e *Entity) error {
	class := strings.ToUpper(string(e.Class[:1])) + string(e.Class[1:])
	return iamapi.EntityAlreadyExistsException(class + " with name " + e.Name + " already exists.")
}

// CreateUser makes an IAM user.
func (s *Service) CreateUser(ctx context.Context, call *Call, in *iamapi.CreateUserRequest) (*iamapi.CreateUserResponse, error) {
	var out iamapi.CreateUserResponse
	err := call.Update(ctx, s.db, func(tx *store.Tx) error {
		tx.OnlyCreates()
		e := newEntity(call.Account(), UserClass, *in.UserName, model.Value(in.Path), call.Now)
		out.User = wireUser(e)
		if err := s.create(tx, call, actCreateUser, e, in.Tags, model.Value(in.PermissionsBoundary)); err != nil {
			return err
		}
		out.User = wireUser(e)
		return nil
	})
	return &out, err
}

var actCreateUser = policy.MustAction("iam:CreateUser")

// GetUser shows a user; without a name, the caller.
func (s *Service) GetUser(ctx context.Context, call *Call, in *iamapi.GetUserRequest) (*iamapi.GetUserResponse, error) {
	var out iamapi.GetUserResponse
	if in.UserName == nil && call.Credential.Session == nil && call.Credential.user == "" {
		return s.getRoot(ctx, call)
	}
	name, err := call.userName(in.UserName)
	if err != nil {
		return nil, err
	}
	err = s.read(ctx, call, policy.MustAction("iam:GetUser"), UserClass, name, func(_ *store.Tx, e *Entity) error {
		out.User = wireUser(e)
		return nil
	})
	return &out, err
}

func (s *Service) getRoot(ctx context.Context, call *Call) (*iamapi.GetUserResponse, error) {
	root := &iamapi.User{UserId: new(call.Account()), Arn: new(arn.Root(Partition, call.Account()))}
	err := call.View(ctx, s.db, func(tx *store.Tx) error {
		a, err := FindAccount(tx, call.Account())
		if err == nil {
			root.CreateDate = model.At(a.Created)
		}
		return err
	})
	return &iamapi.GetUserResponse{User: root}, err
}

// userName is the user a request means: the one it names, or the caller.
func (c *Call) userName(name *string) (string, error) {
	switch {
	case name != nil:
		return *name, nil
	case c.Credential.Session != nil || c.Credential.user == "":
		return "", ValidationError("Must specify userName when calling with non-User credentials")
	default:
		return c.Credential.user, nil
	}
}

// entities lists one class, in the order of names.
func (s *Service) entities(ctx context.Context, call *Call, action policy.Action, c Class, prefix, marker *string, items *int32) (
	shown []*Entity, truncated *bool, next *string, err error) {
	p, err := newPage(marker, items)
	if err != nil {
		return nil, nil, nil, err
	}
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		path := model.Or(prefix, "/")
		if err := s.allow(tx, call, action, arn.IAM(Partition, call.Account(), string(c)+path), nil); err != nil {
			return err
		}
		found, err := scan(tx, entityKind, entityPrefix(call.Account(), c), p, func(e *Entity) bool {
			return strings.HasPrefix(e.Path, path)
		})
		shown, truncated, next = cut(p, found, func(e *Entity) string { return entityKey(e.Account, e.Class, e.Name) })
		return err
	})
	return shown, truncated, next, err
}

// scan collects records that keep holds for, until one more than the page shows.
func scan[T any](tx *store.Tx, k store.Kind[T], prefix string, p page, keep func(*T) bool) ([]*T, error) {
	return store.Collect(tx, k, prefix, p.after, p.n+1, keep)
}

// ListUsers lists users.
func (s *Service) ListUsers(ctx context.Context, call *Call, in *iamapi.ListUsersRequest) (*iamapi.ListUsersResponse, error) {
	shown, truncated, marker, err := s.entities(ctx, call, policy.MustAction("iam:ListUsers"), UserClass, in.PathPrefix, in.Marker, in.MaxItems)
	out := &iamapi.ListUsersResponse{Users: []iamapi.User{}, IsTruncated: truncated, Marker: marker}
	for _, e := range shown {
		u := wireUser(e)
		u.Tags = nil
		out.Users = append(out.Users, *u)
	}
	return out, err
}

// UpdateUser renames a user or moves it to another path. Its unique id, keys and
// policies stay; key policies that name it follow.
func (s *Service) UpdateUser(ctx context.Context, call *Call, in *iamapi.UpdateUserRequest) (*struct{}, error) {
	return nil, s.rename(ctx, call, policy.MustAction("iam:UpdateUser"), UserClass, *in.UserName, in.NewUserName, in.NewPath)
}

func (s *Service) rename(ctx context.Context, call *Call, action policy.Action, c Class, name string, newName, newPath *string) error {
	return call.Update(ctx, s.db, func(tx *store.Tx) error {
		e, err := s.named(tx, call, action, c, name, nil)
		if err != nil {
			return err
		}
		old := *e
		e.Name, e.Path, e.arn = model.Or(newName, e.Name), model.Or(newPath, e.Path), ""
		if err := s.allow(tx, call, action, e.ARN(), nil); err != nil { // on what it becomes as well
			return err
		}
		if !strings.EqualFold(old.Name, e.Name) {
			if _, err := FindEntity(tx, e.Account, c, e.Name); err == nil {
				return alreadyExists(e)
			} else if !errors.Is(err, store.ErrNotFound) {
				return err
			}
			removeEntity(tx, &old)
		}
		if err := s.follow(tx, &old, e); err != nil {
			return err
		}
		return addEntity(tx, e)
	})
}

// follow carries a new name to the records that hold the old one.
func (s *Service) follow(tx *store.Tx, old, e *Entity) error {
	for _, id := range e.AccessKeys {
		k, err := store.Edit(tx, accessKeyKind, accessKeyKey(id))
		if err != nil {
			return err
		}
		k.User = e.Name
		if err := store.Put(tx, accessKeyKind, accessKeyKey(id), k); err != nil {
			return err
		}
	}
	for _, serial := range e.MFADevices {
		d, err := store.Edit(tx, mfaKind, mfaKey(serial))
		if err != nil {
			return err
		}
		d.User = e.Name
		if err := store.Put(tx, mfaKind, mfaKey(serial), d); err != nil {
			return err
		}
	}
	for _, g := range e.Groups {
		if err := editMembers(tx, e.Account, g, func(m []string) []string {
			return append(slices.DeleteFunc(m, func(n string) bool { return n == old.Name }), e.Name)
		}); err != nil {
			return err
		}
	}
	for _, m := range e.Members {
		u, err := editEntity(tx, e.Account, UserClass, m)
		if err != nil {
			return err
		}
		u.Groups = append(slices.DeleteFunc(u.Groups, func(n string) bool { return n == old.Name }), e.Name)
		if err := putEntity(tx, u); err != nil {
			return err
		}
	}
	return nil
}

// DeleteUser removes a user that holds nothing any more.
func (s *Service) DeleteUser(ctx context.Context, call *Call, in *iamapi.DeleteUserRequest) (*struct{}, error) {
	return nil, s.remove(ctx, call, policy.MustAction("iam:DeleteUser"), UserClass, *in.UserName)
}

func (s *Service) remove(ctx context.Context, call *Call, action policy.Action, c Class, name string) error {
	return call.Update(ctx, s.db, func(tx *store.Tx) error {
		e, err := s.named(tx, call, action, c, name, nil)
		if err != nil {
			return err
		}
		if msg := holds(e); msg != "" {
			return iamapi.DeleteConflictException("Cannot delete entity, must " + msg + " first.")
		}
		if err := clearBoundary(tx, e); err != nil {
			return err
		}
		removeEntity(tx, e)
		return nil
	})
}

// holds says what keeps an entity from being deleted.
func holds(e *Entity) string {
	switch {
	case len(e.Attached) > 0:
		return "detach all policies"
	case len(e.Inline) > 0:
		return "delete policies"
	case len(e.AccessKeys) > 0:
		return "delete access keys"
	case len(e.MFADevices) > 0:
		return "delete MFA device"
	case len(e.Groups) > 0:
		return "remove users from group"
	case len(e.Members) > 0:
		return "remove users from group"
	default:
		return ""
	}
}
