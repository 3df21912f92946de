package accessanalyzer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"uuid"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/inquire"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/analyzerapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// CreateAccessPreview takes up a proposed key policy and grants.
func (s *Service) CreateAccessPreview(ctx context.Context, call *iam.Call, in *analyzerapi.CreateAccessPreviewRequest) (*analyzerapi.CreateAccessPreviewResponse, error) {
	p := &preview{ID: uuid.New().String(), Account: call.Account(), Region: call.Region, Created: call.Now, Keys: map[string]inquire.Proposal{}}
	if len(in.Configurations) != 1 {
		return nil, invalid("An access preview is about one resource.")
	}
	for key, c := range in.Configurations {
		if c.KmsKey == nil {
			return nil, invalid("Access previews are of KMS keys: give kmsKey.")
		}
		proposal := inquire.Proposal{}
		if text, ok := c.KmsKey.KeyPolicies["default"]; ok {
			if _, err := document("key policy", text, policy.Key); err != nil {
				return nil, err
			}
			proposal.Policy = &inquire.Text{Name: "the proposed key policy", Document: text}
		} else if len(c.KmsKey.KeyPolicies) > 0 {
			return nil, invalid("A key has one policy, named default.")
		}
		for _, g := range c.KmsKey.Grants {
			bad := g.GranteePrincipal == nil || !strings.HasPrefix(*g.GranteePrincipal, "arn:") || len(g.Operations) == 0 ||
				slices.ContainsFunc(g.Operations, func(op string) bool { return !kms.IsGrantOperation(op) })
			if bad {
				return nil, invalid("A grant has operations and the ARN of a granteePrincipal.")
			}
			terms := policy.GrantTerms{Name: "a proposed grant", Grantee: *g.GranteePrincipal, Operations: g.Operations}
			if g.Constraints != nil {
				terms.Equals, terms.Subset = g.Constraints.EncryptionContextEquals, g.Constraints.EncryptionContextSubset
			}
			proposal.Grants = append(proposal.Grants, terms)
		}
		p.Keys[key] = proposal
	}
	err := call.Update(ctx, s.db, func(tx *store.Tx) error {
		tx.OnlyCreates()
		a, err := named(tx, call, "CreateAccessPreview", *in.AnalyzerArn)
		if err != nil {
			return err
		}
		for key := range p.Keys {
			if ok, err := a.covers(tx, key); err != nil || !ok {
				return errors.Join(err, invalid("The resource is not a KMS key of the analyzer's zone of trust and Region."))
			}
		}
		p.Analyzer = a.Name
		return store.Put(tx, previewKind, previewPrefix(p.Region, p.Account, p.Analyzer)+p.ID, p)
	})
	if err != nil {
		return nil, err
	}
	return &analyzerapi.CreateAccessPreviewResponse{Id: &p.ID}, nil
}

// preview finds a preview by its id.
func (s *Service) preview(ctx context.Context, call *iam.Call, action, name, id string) (a *analyzer, p *preview, err error) {
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		if a, err = named(tx, call, action, name); err != nil {
			return err
		}
		p, err = store.Get(tx, previewKind, previewPrefix(a.Region, a.Account, a.Name)+id)
		if errors.Is(err, store.ErrNotFound) {
			err = gone("Access preview", id)
		}
		return err
	})
	return a, p, err
}

// GetAccessPreview describes a preview.
func (s *Service) GetAccessPreview(ctx context.Context, call *iam.Call, in *analyzerapi.GetAccessPreviewRequest) (*analyzerapi.GetAccessPreviewResponse, error) {
	a, p, err := s.preview(ctx, call, "GetAccessPreview", *in.AnalyzerArn, *in.AccessPreviewId)
	if err != nil {
		return nil, err
	}
	out := &analyzerapi.AccessPreview{Id: &p.ID, AnalyzerArn: new(a.arn()), CreatedAt: model.ISO(p.Created), Status: new(analyzerapi.AccessPreviewStatusCompleted),
		Configurations: map[string]analyzerapi.Configuration{}}
	for key, proposal := range p.Keys {
		c := &analyzerapi.KmsKeyConfiguration{}
		if proposal.Policy != nil {
			c.KeyPolicies = map[string]string{"default": proposal.Policy.Document}
		}
		for _, g := range proposal.Grants {
			one := analyzerapi.KmsGrantConfiguration{Operations: g.Operations, GranteePrincipal: &g.Grantee, IssuingAccount: &p.Account}
			if g.Equals != nil || g.Subset != nil {
				one.Constraints = &analyzerapi.KmsGrantConstraints{EncryptionContextEquals: g.Equals, EncryptionContextSubset: g.Subset}
			}
			c.Grants = append(c.Grants, one)
		}
		out.Configurations[key] = analyzerapi.Configuration{KmsKey: c}
	}
	return &analyzerapi.GetAccessPreviewResponse{AccessPreview: out}, nil
}

// ListAccessPreviews lists the previews of an analyzer.
func (s *Service) ListAccessPreviews(ctx context.Context, call *iam.Call, in *analyzerapi.ListAccessPreviewsRequest) (out *analyzerapi.ListAccessPreviewsResponse, err error) {
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		a, err := named(tx, call, "ListAccessPreviews", *in.AnalyzerArn)
		if err != nil {
			return err
		}
		found, err := store.List(tx, previewKind, previewPrefix(a.Region, a.Account, a.Name), "", 1<<10)
		if err != nil {
			return err
		}
		part, next, err := page(found, in.NextToken, in.MaxResults, 100)
		out = &analyzerapi.ListAccessPreviewsResponse{AccessPreviews: []analyzerapi.AccessPreviewSummary{}, NextToken: next}
		for _, p := range part {
			out.AccessPreviews = append(out.AccessPreviews, analyzerapi.AccessPreviewSummary{Id: &p.Value.ID, AnalyzerArn: new(a.arn()), CreatedAt: model.ISO(p.Value.Created),
				Status: new(analyzerapi.AccessPreviewStatusCompleted)})
		}
		return err
	})
	return out, err
}

// ListAccessPreviewFindings tells what a preview changes: access that is new, access that is
// changed, and access that stays.
func (s *Service) ListAccessPreviewFindings(ctx context.Context, call *iam.Call, in *analyzerapi.ListAccessPreviewFindingsRequest) (*analyzerapi.ListAccessPreviewFindingsResponse, error) {
	a, p, err := s.preview(ctx, call, "ListAccessPreviewFindings", *in.AnalyzerArn, *in.AccessPreviewId)
	if err != nil {
		return nil, err
	}
	all := []analyzerapi.AccessPreviewFinding{}
	for _, key := range slices.Sorted(maps.Keys(p.Keys)) {
		some, err := s.compared(ctx, a, p, key)
		if err != nil {
			return nil, err
		}
		for _, f := range some {
			ok, err := f.finding.satisfies(in.Filter)
			if err != nil {
				return nil, err
			}
			if ok {
				all = append(all, f.wire(p))
			}
		}
	}
	part, next, err := page(all, in.NextToken, in.MaxResults, 100)
	return &analyzerapi.ListAccessPreviewFindingsResponse{Findings: part, NextToken: next}, err
}

// A compared finding is one of a preview beside the one there is now, if there is one.
type compared struct {
	finding
	change inquire.AccessChange
}

func (s *Service) compared(ctx context.Context, a *analyzer, p *preview, key string) (out []compared, err error) {
	var ok bool
	err = s.db.View(ctx, func(tx *store.Tx) error {
		ok, err = a.covers(tx, key)
		return err
	})
	if err != nil || !ok {
		return nil, errors.Join(err, invalid("The resource is not in the analyzer's zone of trust any more."))
	}
	found, err := s.world.Preview(ctx, key, a.organization(), p.Keys[key])
	if errors.Is(err, inquire.ErrQuestion) {
		return nil, analyzerapi.ResourceNotFoundException("The key " + key + " does not exist, and no policy is proposed for it.")
	}
	for _, x := range found {
		out = append(out, compared{finding{idOf(a.arn(), key, x.External), key, x.External}, x.Change})
	}
	return out, err
}

// changes are how the API calls them; access that ends is changed, and resolved.
var changes = map[inquire.AccessChange]string{inquire.NewAccess: analyzerapi.FindingChangeTypeNew, inquire.ChangedAccess: analyzerapi.FindingChangeTypeChanged,
	inquire.UnchangedAccess: analyzerapi.FindingChangeTypeUnchanged, inquire.EndedAccess: analyzerapi.FindingChangeTypeChanged}

func (c *compared) wire(p *preview) analyzerapi.AccessPreviewFinding {
	out := analyzerapi.AccessPreviewFinding{Id: &c.id, Principal: map[string]string{c.Kind: c.Principal}, Action: c.Actions, Condition: c.Conditions, Resource: &c.key, IsPublic: &c.Public,
		ResourceType: new(analyzerapi.ResourceTypeAwsKmsKey), CreatedAt: model.ISO(p.Created), ChangeType: new(changes[c.change]), Status: new(analyzerapi.FindingStatusActive),
		ResourceOwnerAccount: new(accountOfKey(c.key)), Sources: c.sources()}
	if c.change != inquire.NewAccess {
		out.ExistingFindingId, out.ExistingFindingStatus = &c.id, new(analyzerapi.FindingStatusActive)
	}
	if c.change == inquire.EndedAccess {
		out.Action, out.Status = nil, new(analyzerapi.FindingStatusResolved)
	}
	return out
}
