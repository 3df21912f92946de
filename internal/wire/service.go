// Package wire is HTTP: it routes a request to its service, authenticates it,
// decodes it, and encodes the answer. One port serves every service; the
// signature's credential scope and the protocol say which one is meant.
package wire

import (
	"context"
	"maps"
	"slices"

	"github.com/claviger/claviger/internal/accessanalyzer"
	"github.com/claviger/claviger/internal/advisor"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/inquire"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/analyzerapi"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/model/orgapi"
	"github.com/claviger/claviger/internal/model/stsapi"
	"github.com/claviger/claviger/internal/model/tagapi"
	"github.com/claviger/claviger/internal/model/trailapi"
	"github.com/claviger/claviger/internal/org"
	"github.com/claviger/claviger/internal/sts"
	"github.com/claviger/claviger/internal/tagging"
)

// A service is one API on the port.
type service struct {
	name         string // in credential scopes
	protocol     protocol
	targetPrefix string                 // JSON: what X-Amz-Target begins with
	namespace    string                 // Query: of the XML
	version      string                 // Query: of the API
	internal     string                 // the fault for our own failures
	regional     bool                   // what it keeps is in Regions
	known        []string               // every operation of the model
	routes       map[string]model.Route // REST
	operations   map[string]*operation
	// admit counts a request against its quota; nil: there are none.
	admit func(call *iam.Call, operation string) error
}

// An operation is one row of a service's table.
type operation struct {
	name     string
	readOnly bool
	unsigned bool // the request brings its own proof
	run      func(ctx context.Context, call *iam.Call, decode func(in request) error) (any, error)
	success  func() *outcome // nil for operations that are refused
}

// services builds the tables.
func services(c Config) []*service {
	all := []*service{
		{name: "kms", regional: true, protocol: jsonProtocol, targetPrefix: kmsapi.TargetPrefix, internal: "KMSInternalException", known: kmsapi.Operations, operations: kmsOperations(c.KMS), admit: c.KMS.Admit},
		{name: "iam", protocol: queryProtocol, namespace: iamapi.Namespace, version: iamapi.Version, internal: "ServiceFailure", known: iamapi.Operations, operations: iamOperations(c.IAM)},
		{name: "sts", protocol: queryProtocol, namespace: stsapi.Namespace, version: stsapi.Version, internal: "InternalFailure", known: stsapi.Operations, operations: stsOperations(c.STS)},
		{name: "organizations", protocol: jsonProtocol, targetPrefix: orgapi.TargetPrefix, internal: "ServiceException", known: orgapi.Operations, operations: orgOperations(c.Organizations)},
		{name: "tagging", regional: true, protocol: jsonProtocol, targetPrefix: tagapi.TargetPrefix, internal: "InternalServiceException", known: tagapi.Operations, operations: tagOperations(tagging.New(c.KMS))},
		{name: "cloudtrail", regional: true, protocol: jsonProtocol, targetPrefix: trailapi.TargetPrefix, internal: "InternalFailure", known: trailapi.Operations, operations: trailOperations(c.Trail)},
		{name: "claviger", protocol: jsonProtocol, targetPrefix: advisor.TargetPrefix, internal: "InternalFailure", known: advisor.Operations, operations: advisorOperations(advisor.New(&inquire.World{DB: c.DB, KMS: c.KMS}, c.Trail.Find))},
		{name: "access-analyzer", regional: true, protocol: restProtocol, routes: analyzerapi.Routes, internal: "InternalServerException", known: analyzerapi.Operations, operations: analyzerOperations(accessanalyzer.New(&inquire.World{DB: c.DB, KMS: c.KMS}))},
	}
	for _, s := range all {
		for name, o := range s.operations {
			o.name = name
		}
	}
	return all
}

// An Implemented tells what there is of one service.
type Implemented struct {
	Service string
	Done    []string
	Missing []string // of the model, refused with a fault
}

// Operations lists what there is of each service, for people and for the
// compatibility table.
func Operations() []Implemented {
	var out []Implemented
	for _, s := range services(Config{KMS: &kms.Service{}, IAM: &iam.Service{}, STS: &sts.Service{}, Organizations: &org.Service{}}) {
		i := Implemented{Service: s.name, Done: slices.Sorted(maps.Keys(s.operations))}
		for _, name := range s.known {
			if s.operations[name] == nil {
				i.Missing = append(i.Missing, name)
			}
		}
		out = append(out, i)
	}
	return out
}
