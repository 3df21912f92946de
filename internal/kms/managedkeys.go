package kms

import (
	"context"
	"errors"
	"slices"
	"strings"
	"uuid"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// managedServices are the services with an AWS managed key, by the name in its
// alias alias/aws/….
var managedServices = []string{
	"acm", "backup", "cloud9", "codecommit", "connect", "dms", "dynamodb", "ebs", "elasticfilesystem", "es", "fsx", "glue", "kinesis",
	"kinesisvideo", "lambda", "lightsail", "neptune", "rds", "redshift", "s3", "secretsmanager", "ses", "sns", "sqs", "ssm", "workspaces", "xray",
}

// An unmadeKey is the AWS managed key that an alias stands for and that was not
// asked for before.
type unmadeKey struct{ service string }

func (u *unmadeKey) Error() string {
	return "kms: the key of alias/aws/" + u.service + " is not made yet"
}

// managedService is the service of an alias of an AWS managed key; "" for others.
func managedService(alias string) string {
	name, ok := strings.CutPrefix(alias, "alias/aws/")
	if !ok || !slices.Contains(managedServices, name) {
		return ""
	}
	return name
}

// managedPolicy is the key policy of an AWS managed key: use through its service
// by everybody in the account, and looking at it (policy-document.md §7.3).
func managedPolicy(k *Key, service string) string {
	return `{"Version":"2012-10-17","Id":"auto-` + service + `-1","Statement":[` +
		`{"Sid":"Allow access through ` + service + ` for all principals in the account that are authorized to use ` + service + `","Effect":"Allow","Principal":{"AWS":"*"},` +
		`"Action":["kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:GenerateDataKey*","kms:CreateGrant","kms:DescribeKey"],"Resource":"*",` +
		`"Condition":{"StringEquals":{"kms:CallerAccount":"` + k.Account + `","kms:ViaService":"` + service + "." + k.Region + `.amazonaws.com"}}},` +
		`{"Sid":"Allow direct access to key metadata to the account","Effect":"Allow","Principal":{"AWS":"` + arn.Root(arn.Partition(k.Region), k.Account) + `"},` +
		`"Action":["kms:Describe*","kms:Get*","kms:List*","kms:RevokeGrant"],"Resource":"*"}]}`
}

// makeManaged makes the AWS managed keys of services, and their aliases, for a read
// that is allowed to use them, and does the read. Who may not use a key does not
// bring it about.
func (s *Service) makeManaged(ctx context.Context, call *iam.Call, services []string, read func(*store.Tx) error) error {
	var made []*Key
	err := call.Update(ctx, s.db, func(tx *store.Tx) error {
		tx.OnlyAdds()
		made = nil
		for _, service := range services {
			k, err := s.addManaged(tx, call, service)
			if err != nil {
				return err
			}
			if k != nil {
				made = append(made, k)
			}
		}
		return read(tx)
	})
	if err != nil {
		return err
	}
	for _, k := range made {
		if err := s.serviceEvent("CreateKey", k.Region, k.Account, k.ID, call.Now).End(); err != nil {
			return err
		}
	}
	return nil
}

// addManaged adds an AWS managed key; nil if it is there by now.
func (s *Service) addManaged(tx *store.Tx, call *iam.Call, service string) (*Key, error) {
	name := "alias/aws/" + service
	at := aliasKey(call.Region, call.Account(), name)
	if _, err := store.Get(tx, aliasKind, at); !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	k := &Key{
		ID: uuid.New().String(), Account: call.Account(), Region: call.Region, State: kmsapi.KeyStateEnabled, Spec: symmetricDefault, Usage: encryptDecrypt,
		Origin: kmsapi.OriginTypeAwsKms, Manager: kmsapi.KeyManagerTypeAws, Created: call.Now, Aliases: []string{name},
		Description: "Default key that protects my " + service + " data when no other key is defined",
		Rotation:    Rotation{Enabled: true, Days: rotationDays},
	}
	k.Policy = managedPolicy(k, service)
	secret, err := material.Generate()
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	if err := k.first(tx, secret); err != nil {
		return nil, err
	}
	if err := k.schedule(tx, call.Now.Add(rotationDays*day)); err != nil {
		return nil, err
	}
	if err := store.Put(tx, aliasKind, at, &Alias{name, k.ID, call.Now, call.Now}); err != nil {
		return nil, err
	}
	return k, putKey(tx, k)
}
