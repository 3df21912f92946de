package iam

import (
	"context"
	"slices"

	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// maxGroups is how many groups a user may be in.
const maxGroups = 10

func wireGroup(e *Entity) *iamapi.Group {
	return &iamapi.Group{Path: &e.Path, GroupName: &e.Name, GroupId: &e.ID, Arn: new(e.ARN()), CreateDate: model.At(e.Created)}
}

// CreateGroup makes a group.
func (s *Service) CreateGroup(ctx context.Context, call *Call, in *iamapi.CreateGroupRequest) (*iamapi.CreateGroupResponse, error) {
	var out iamapi.CreateGroupResponse
	err := call.Update(ctx, s.db, func(tx *store.Tx) error {
		tx.OnlyCreates()
		e := newEntity(call.Account(), GroupClass, *in.GroupName, model.Value(in.Path), call.Now)
		out.Group = wireGroup(e)
		return s.create(tx, call, policy.MustAction("iam:CreateGroup"), e, nil, "")
	})
	return &out, err
}

// GetGroup shows a group and its users.
func (s *Service) GetGroup(ctx context.Context, call *Call, in *iamapi.GetGroupRequest) (*iamapi.GetGroupResponse, error) {
	out := &iamapi.GetGroupResponse{Users: []iamapi.User{}}
	p, err := newPage(in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	err = s.read(ctx, call, policy.MustAction("iam:GetGroup"), GroupClass, *in.GroupName, func(tx *store.Tx, e *Entity) error {
		out.Group, out.Users = wireGroup(e), out.Users[:0]
		var names []string
		names, out.IsTruncated, out.Marker = cutNames(p, slices.Sorted(slices.Values(e.Members)))
		for _, name := range names {
			u, err := FindEntity(tx, e.Account, UserClass, name)
			if err != nil {
				return err
			}
			shown := wireUser(u)
			shown.Tags = nil
			out.Users = append(out.Users, *shown)
		}
		return nil
	})
	return out, err
}

// ListGroups lists groups.
func (s *Service) ListGroups(ctx context.Context, call *Call, in *iamapi.ListGroupsRequest) (*iamapi.ListGroupsResponse, error) {
	shown, truncated, marker, err := s.entities(ctx, call, policy.MustAction("iam:ListGroups"), GroupClass, in.PathPrefix, in.Marker, in.MaxItems)
	out := &iamapi.ListGroupsResponse{Groups: []iamapi.Group{}, IsTruncated: truncated, Marker: marker}
	for _, e := range shown {
		out.Groups = append(out.Groups, *wireGroup(e))
	}
	return out, err
}

// ListGroupsForUser lists the groups a user is in.
func (s *Service) ListGroupsForUser(ctx context.Context, call *Call, in *iamapi.ListGroupsForUserRequest) (*iamapi.ListGroupsForUserResponse, error) {
	out := &iamapi.ListGroupsForUserResponse{Groups: []iamapi.Group{}}
	p, err := newPage(in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	err = s.read(ctx, call, policy.MustAction("iam:ListGroupsForUser"), UserClass, *in.UserName, func(tx *store.Tx, e *Entity) error {
		out.Groups = out.Groups[:0]
		var names []string
		names, out.IsTruncated, out.Marker = cutNames(p, slices.Sorted(slices.Values(e.Groups)))
		for _, name := range names {
			g, err := FindEntity(tx, e.Account, GroupClass, name)
			if err != nil {
				return err
			}
			out.Groups = append(out.Groups, *wireGroup(g))
		}
		return nil
	})
	return out, err
}

// UpdateGroup renames a group or moves it to another path.
func (s *Service) UpdateGroup(ctx context.Context, call *Call, in *iamapi.UpdateGroupRequest) (*struct{}, error) {
	return nil, s.rename(ctx, call, policy.MustAction("iam:UpdateGroup"), GroupClass, *in.GroupName, in.NewGroupName, in.NewPath)
}

// DeleteGroup removes a group without users and policies.
func (s *Service) DeleteGroup(ctx context.Context, call *Call, in *iamapi.DeleteGroupRequest) (*struct{}, error) {
	return nil, s.remove(ctx, call, policy.MustAction("iam:DeleteGroup"), GroupClass, *in.GroupName)
}

// editMembers changes a group's list of users.
func editMembers(tx *store.Tx, account, group string, edit func([]string) []string) error {
	g, err := editEntity(tx, account, GroupClass, group)
	if err != nil {
		return err
	}
	g.Members = edit(g.Members)
	return putEntity(tx, g)
}

// AddUserToGroup makes a user a member; it may be one already.
func (s *Service) AddUserToGroup(ctx context.Context, call *Call, in *iamapi.AddUserToGroupRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, policy.MustAction("iam:AddUserToGroup"), GroupClass, *in.GroupName, nil, func(tx *store.Tx, g *Entity) error {
		return join(tx, g, *in.UserName)
	})
}

// join makes a user a member of a group, which the caller stores.
func join(tx *store.Tx, g *Entity, name string) error {
	u, err := editEntity(tx, g.Account, UserClass, name)
	if err != nil {
		return missing(err, UserClass, name)
	}
	if slices.Contains(u.Groups, g.Name) {
		return nil
	}
	if len(u.Groups) == maxGroups {
		return iamapi.LimitExceededException("Cannot exceed quota for GroupsPerUser: 10")
	}
	u.Groups, g.Members = append(u.Groups, g.Name), append(g.Members, u.Name)
	return putEntity(tx, u)
}

// RemoveUserFromGroup ends a membership.
func (s *Service) RemoveUserFromGroup(ctx context.Context, call *Call, in *iamapi.RemoveUserFromGroupRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, policy.MustAction("iam:RemoveUserFromGroup"), GroupClass, *in.GroupName, nil, func(tx *store.Tx, g *Entity) error {
		u, err := editEntity(tx, g.Account, UserClass, *in.UserName)
		if err != nil {
			return missing(err, UserClass, *in.UserName)
		}
		if !slices.Contains(u.Groups, g.Name) {
			return iamapi.NoSuchEntityException("User " + u.Name + " is not in group " + g.Name)
		}
		u.Groups = slices.DeleteFunc(u.Groups, func(n string) bool { return n == g.Name })
		g.Members = slices.DeleteFunc(g.Members, func(n string) bool { return n == u.Name })
		return putEntity(tx, u)
	})
}
