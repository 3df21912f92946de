package model

//go:generate go run github.com/claviger/claviger/tools/modelgen -model api/kms.json -package kmsapi -out kmsapi
//go:generate go run github.com/claviger/claviger/tools/modelgen -model api/iam.json -package iamapi -out iamapi
//go:generate go run github.com/claviger/claviger/tools/modelgen -model api/sts.json -package stsapi -out stsapi
//go:generate go run github.com/claviger/claviger/tools/modelgen -model api/organizations.json -package orgapi -out orgapi
//go:generate go run github.com/claviger/claviger/tools/modelgen -model api/tagging.json -package tagapi -out tagapi
//go:generate go run github.com/claviger/claviger/tools/modelgen -model api/cloudtrail.json -package trailapi -out trailapi
//go:generate go run github.com/claviger/claviger/tools/modelgen -model api/accessanalyzer.json -package analyzerapi -out analyzerapi
