package accessanalyzer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"uuid"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/inquire"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/analyzerapi"
	"github.com/claviger/claviger/internal/store"
)

// An analyzer looks for access to the keys of an account, or of an organization, from outside.
type analyzer struct {
	Name, Account, Region, Type string
	Created                     time.Time
	Tags                        map[string]string `json:",omitzero"`
}

// A preview is what a proposed key policy, with proposed grants, would let in.
type preview struct {
	ID, Analyzer, Account, Region string
	Created                       time.Time
	Keys                          map[string]inquire.Proposal // by ARN
}

var (
	analyzerKind = store.Kind[analyzer]{Tag: 50, Name: "analyzer"}
	previewKind  = store.Kind[preview]{Tag: 51, Name: "access preview"}
)

func analyzerPrefix(region, account string) string {
	return "x/" + region + "/" + account + "/analyzer/"
}

func previewPrefix(region, account, analyzer string) string {
	return "x/" + region + "/" + account + "/preview/" + analyzer + "/"
}

func (a *analyzer) arn() string {
	return "arn:" + arn.Partition(a.Region) + ":access-analyzer:" + a.Region + ":" + a.Account + ":analyzer/" + a.Name
}

// organization reports whether the zone of trust is the organization.
func (a *analyzer) organization() bool { return a.Type == analyzerapi.TypeOrganization }

func (a *analyzer) summary() *analyzerapi.AnalyzerSummary {
	return &analyzerapi.AnalyzerSummary{Arn: new(a.arn()), Name: &a.Name, Type: &a.Type, CreatedAt: model.ISO(a.Created), Status: new(analyzerapi.AnalyzerStatusActive), Tags: a.Tags}
}

// named finds an analyzer of the caller's account and Region by its ARN, and authorizes an
// action on it.
func named(tx *store.Tx, call *iam.Call, action, text string) (*analyzer, error) {
	name, ok := strings.CutPrefix(text, "arn:"+arn.Partition(call.Region)+":access-analyzer:"+call.Region+":"+call.Account()+":analyzer/")
	if err := authorize(tx, call, action, text); err != nil {
		return nil, err
	}
	if !ok {
		return nil, gone("Analyzer", text)
	}
	return find(tx, call, name)
}

func find(tx *store.Tx, call *iam.Call, name string) (*analyzer, error) {
	a, err := store.Get(tx, analyzerKind, analyzerPrefix(call.Region, call.Account())+name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, gone("Analyzer", name)
	}
	return a, err
}

func gone(what, id string) error {
	return analyzerapi.ResourceNotFoundException("The " + strings.ToLower(what) + " " + id + " does not exist.")
}

// CreateAnalyzer makes an analyzer of external access.
func (s *Service) CreateAnalyzer(ctx context.Context, call *iam.Call, in *analyzerapi.CreateAnalyzerRequest) (*analyzerapi.CreateAnalyzerResponse, error) {
	a := &analyzer{Name: *in.AnalyzerName, Account: call.Account(), Region: call.Region, Type: *in.Type, Created: call.Now.Truncate(time.Second), Tags: in.Tags}
	if a.Type != analyzerapi.TypeAccount && a.Type != analyzerapi.TypeOrganization {
		return nil, invalid("There are analyzers of external access alone: ACCOUNT and ORGANIZATION.")
	}
	err := call.Update(ctx, s.db, func(tx *store.Tx) error {
		tx.OnlyCreates()
		if err := authorize(tx, call, "CreateAnalyzer", a.arn()); err != nil {
			return err
		}
		if o, err := iam.OrganizationOf(tx, a.Account); a.organization() && (errors.Is(err, store.ErrNotFound) || err == nil && o.Management != a.Account) {
			return invalid("An analyzer of an organization is made by the account that manages it.")
		} else if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		key := analyzerPrefix(a.Region, a.Account) + a.Name
		if _, err := store.Get(tx, analyzerKind, key); err == nil {
			return analyzerapi.ConflictException("The analyzer " + a.Name + " exists already.")
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return store.Put(tx, analyzerKind, key, a)
	})
	if err != nil {
		return nil, err
	}
	return &analyzerapi.CreateAnalyzerResponse{Arn: new(a.arn())}, nil
}

// GetAnalyzer describes an analyzer.
func (s *Service) GetAnalyzer(ctx context.Context, call *iam.Call, in *analyzerapi.GetAnalyzerRequest) (out *analyzerapi.GetAnalyzerResponse, err error) {
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		one := &analyzer{Name: *in.AnalyzerName, Account: call.Account(), Region: call.Region}
		a, err := named(tx, call, "GetAnalyzer", one.arn())
		if err == nil {
			out = &analyzerapi.GetAnalyzerResponse{Analyzer: a.summary()}
		}
		return err
	})
	return out, err
}

// ListAnalyzers lists those of the account and Region.
func (s *Service) ListAnalyzers(ctx context.Context, call *iam.Call, in *analyzerapi.ListAnalyzersRequest) (out *analyzerapi.ListAnalyzersResponse, err error) {
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		if err := authorize(tx, call, "ListAnalyzers", "*"); err != nil {
			return err
		}
		prefix := analyzerPrefix(call.Region, call.Account())
		found, err := store.Collect(tx, analyzerKind, prefix, prefix, 1<<10, func(a *analyzer) bool { return in.Type == nil || a.Type == *in.Type })
		if err != nil {
			return err
		}
		part, next, err := page(found, in.NextToken, in.MaxResults, 100)
		out = &analyzerapi.ListAnalyzersResponse{Analyzers: []analyzerapi.AnalyzerSummary{}, NextToken: next}
		for _, a := range part {
			out.Analyzers = append(out.Analyzers, *a.summary())
		}
		return err
	})
	return out, err
}

// DeleteAnalyzer removes an analyzer and its previews.
func (s *Service) DeleteAnalyzer(ctx context.Context, call *iam.Call, in *analyzerapi.DeleteAnalyzerRequest) (*struct{}, error) {
	return nil, call.Update(ctx, s.db, func(tx *store.Tx) error {
		one := &analyzer{Name: *in.AnalyzerName, Account: call.Account(), Region: call.Region}
		a, err := named(tx, call, "DeleteAnalyzer", one.arn())
		if err != nil {
			return err
		}
		tx.Delete(analyzerPrefix(a.Region, a.Account) + a.Name)
		previews, err := store.List(tx, previewKind, previewPrefix(a.Region, a.Account, a.Name), "", 1<<10)
		for _, p := range previews {
			tx.Delete(p.Key)
		}
		return err
	})
}

// covers reports whether a key, named by its ARN, is in the zone of trust and the Region.
func (a *analyzer) covers(tx *store.Tx, key string) (bool, error) {
	k, err := arn.Parse(key)
	if err != nil || k.Service != "kms" || k.Region != a.Region || !strings.HasPrefix(k.Resource, "key/") {
		return false, nil
	}
	if k.Account == a.Account || !a.organization() {
		return k.Account == a.Account, nil
	}
	own, err := iam.OrganizationOf(tx, a.Account)
	if err == nil {
		var of *iam.Organization
		if of, err = iam.OrganizationOf(tx, k.Account); err == nil {
			return of.ID == own.ID && own.Management == a.Account, nil
		}
	}
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return false, err
}

// A finding is access from outside to one key.
type finding struct {
	id, key string
	inquire.External
}

// id is the same for the same access.
func idOf(analyzer, key string, x inquire.External) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %v", analyzer, key, x.Kind, x.Principal, x.Grant)
	for _, k := range slices.Sorted(maps.Keys(x.Conditions)) {
		fmt.Fprintf(h, "%q %q", k, x.Conditions[k])
	}
	var id uuid.UUID
	copy(id[:], h.Sum(nil))
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // RFC 9562, version 8
	return id.String()
}

// findings looks at every key in the zone of trust, in the analyzer's Region.
func (s *Service) findings(ctx context.Context, a *analyzer) (out []finding, err error) {
	accounts := []string{a.Account}
	if a.organization() { // as long as the account manages it
		err = s.db.View(ctx, func(tx *store.Tx) error {
			o, err := iam.OrganizationOf(tx, a.Account)
			if err == nil && o.Management == a.Account {
				accounts, err = iam.Members(tx, o.ID)
			}
			if errors.Is(err, store.ErrNotFound) {
				err = nil
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	keys, err := kms.Keys(ctx, s.db)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		k, err := arn.Parse(key)
		if err != nil || k.Region != a.Region || !slices.Contains(accounts, k.Account) {
			continue
		}
		found, err := s.world.External(ctx, key, a.organization(), nil)
		if errors.Is(err, inquire.ErrQuestion) {
			continue // it was deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		for _, x := range inquire.Merged(found) {
			out = append(out, finding{idOf(a.arn(), key, x), key, x})
		}
	}
	slices.SortFunc(out, func(a, b finding) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.id, b.id)) })
	return out, nil
}

// selected are the findings of an analyzer that satisfy a filter.
func (s *Service) selected(ctx context.Context, call *iam.Call, action, name string, filter map[string]analyzerapi.Criterion) (a *analyzer, out []finding, err error) {
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		a, err = named(tx, call, action, name)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	found, err := s.findings(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range found {
		ok, err := f.satisfies(filter)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			out = append(out, f)
		}
	}
	return a, out, nil
}

// satisfies reports whether a finding has what each criterion asks for.
func (f *finding) satisfies(filter map[string]analyzerapi.Criterion) (bool, error) {
	has := map[string]string{"id": f.id, "resource": f.key, "resourceType": analyzerapi.ResourceTypeAwsKmsKey, "status": analyzerapi.FindingStatusActive,
		"isPublic": strconv.FormatBool(f.Public), "principal." + f.Kind: f.Principal, "resourceOwnerAccount": accountOfKey(f.key), "findingType": analyzerapi.FindingTypeExternalAccess}
	for name, c := range filter {
		v, known := has[name]
		if !known && !strings.HasPrefix(name, "principal.") && !strings.HasPrefix(name, "condition.") && name != "error" && name != "action" {
			return false, invalid("Findings cannot be filtered by " + name + ".")
		}
		values := []string{v}
		if name == "action" {
			values, known = f.Actions, true
		}
		if key, ok := strings.CutPrefix(name, "condition."); ok {
			v, known = f.Conditions[key]
			values = []string{v}
		}
		one := func(list []string, is func(have, want string) bool) bool {
			return slices.ContainsFunc(values, func(have string) bool {
				return known && slices.ContainsFunc(list, func(want string) bool { return is(have, want) })
			})
		}
		equal := func(have, want string) bool { return have == want }
		switch {
		case c.Exists != nil && *c.Exists != known, c.Eq != nil && !one(c.Eq, equal), c.Neq != nil && one(c.Neq, equal), c.Contains != nil && !one(c.Contains, strings.Contains):
			return false, nil
		}
	}
	return true, nil
}

func accountOfKey(key string) string {
	a, _ := arn.Parse(key)
	return a.Account
}

func readToken(token string) (int, error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(b))
	if n < 0 {
		err = errors.New("negative")
	}
	return n, err
}

func writeToken(n int) string { return base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(n))) }

// ListFindingsV2 lists findings of external access.
func (s *Service) ListFindingsV2(ctx context.Context, call *iam.Call, in *analyzerapi.ListFindingsV2Request) (*analyzerapi.ListFindingsV2Response, error) {
	a, found, err := s.selected(ctx, call, "ListFindings", *in.AnalyzerArn, in.Filter)
	if err != nil {
		return nil, err
	}
	part, next, err := page(found, in.NextToken, in.MaxResults, 100)
	out := &analyzerapi.ListFindingsV2Response{Findings: []analyzerapi.FindingSummaryV2{}, NextToken: next}
	for _, f := range part {
		out.Findings = append(out.Findings, analyzerapi.FindingSummaryV2{AnalyzedAt: model.ISO(call.Now), CreatedAt: model.ISO(a.Created), UpdatedAt: model.ISO(a.Created), Id: &f.id,
			Resource: &f.key, ResourceType: new(analyzerapi.ResourceTypeAwsKmsKey), ResourceOwnerAccount: new(accountOfKey(f.key)),
			Status: new(analyzerapi.FindingStatusActive), FindingType: new(analyzerapi.FindingTypeExternalAccess)})
	}
	return out, err
}

// ListFindings is ListFindingsV2 with what the findings say.
func (s *Service) ListFindings(ctx context.Context, call *iam.Call, in *analyzerapi.ListFindingsRequest) (*analyzerapi.ListFindingsResponse, error) {
	a, found, err := s.selected(ctx, call, "ListFindings", *in.AnalyzerArn, in.Filter)
	if err != nil {
		return nil, err
	}
	part, next, err := page(found, in.NextToken, in.MaxResults, 100)
	out := &analyzerapi.ListFindingsResponse{Findings: []analyzerapi.FindingSummary{}, NextToken: next}
	for _, f := range part {
		out.Findings = append(out.Findings, analyzerapi.FindingSummary{Id: &f.id, Principal: map[string]string{f.Kind: f.Principal}, Action: f.Actions, Resource: &f.key, IsPublic: &f.Public,
			ResourceType: new(analyzerapi.ResourceTypeAwsKmsKey), Condition: f.Conditions, CreatedAt: model.ISO(a.Created), AnalyzedAt: model.ISO(call.Now), UpdatedAt: model.ISO(a.Created),
			Status: new(analyzerapi.FindingStatusActive), ResourceOwnerAccount: new(accountOfKey(f.key)), Sources: f.sources()})
	}
	return out, err
}

func (f *finding) sources() []analyzerapi.FindingSource {
	return []analyzerapi.FindingSource{{Type: new(analyzerapi.FindingSourceTypePolicy)}}
}

// one finds a finding by its id.
func (s *Service) one(ctx context.Context, call *iam.Call, name, id string) (*analyzer, *finding, error) {
	a, found, err := s.selected(ctx, call, "GetFinding", name, nil)
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(found, func(f finding) bool { return f.id == id })
	if i < 0 {
		return nil, nil, gone("Finding", id)
	}
	return a, &found[i], nil
}

// GetFindingV2 tells what a finding says.
func (s *Service) GetFindingV2(ctx context.Context, call *iam.Call, in *analyzerapi.GetFindingV2Request) (*analyzerapi.GetFindingV2Response, error) {
	a, f, err := s.one(ctx, call, *in.AnalyzerArn, *in.Id)
	if err != nil {
		return nil, err
	}
	return &analyzerapi.GetFindingV2Response{AnalyzedAt: model.ISO(call.Now), CreatedAt: model.ISO(a.Created), UpdatedAt: model.ISO(a.Created), Id: &f.id, Resource: &f.key,
		ResourceType: new(analyzerapi.ResourceTypeAwsKmsKey), ResourceOwnerAccount: new(accountOfKey(f.key)), Status: new(analyzerapi.FindingStatusActive),
		FindingType: new(analyzerapi.FindingTypeExternalAccess), FindingDetails: []analyzerapi.FindingDetails{{ExternalAccessDetails: &analyzerapi.ExternalAccessDetails{
			Action: f.Actions, Condition: f.Conditions, IsPublic: &f.Public, Principal: map[string]string{f.Kind: f.Principal}, Sources: f.sources()}}}}, nil
}

// GetFinding is GetFindingV2 in its older form.
func (s *Service) GetFinding(ctx context.Context, call *iam.Call, in *analyzerapi.GetFindingRequest) (*analyzerapi.GetFindingResponse, error) {
	a, f, err := s.one(ctx, call, *in.AnalyzerArn, *in.Id)
	if err != nil {
		return nil, err
	}
	return &analyzerapi.GetFindingResponse{Finding: &analyzerapi.Finding{Id: &f.id, Principal: map[string]string{f.Kind: f.Principal}, Action: f.Actions, Resource: &f.key, IsPublic: &f.Public,
		ResourceType: new(analyzerapi.ResourceTypeAwsKmsKey), Condition: f.Conditions, CreatedAt: model.ISO(a.Created), AnalyzedAt: model.ISO(call.Now), UpdatedAt: model.ISO(a.Created),
		Status: new(analyzerapi.FindingStatusActive), ResourceOwnerAccount: new(accountOfKey(f.key)), Sources: f.sources()}}, nil
}
