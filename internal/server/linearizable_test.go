package server_test

import (
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/claviger/claviger/internal/server/historytest"
	"github.com/claviger/claviger/kmstest"
)

const (
	storySteps   = 2500 // of all clients
	controlSteps = 600
)

func newStory(t *testing.T, p historytest.Plot) *historytest.Story {
	srv := kmstest.Start(t)
	return historytest.New(t, p, historytest.Server{URL: srv.URL, AccessKeyID: srv.AccessKeyID, SecretAccessKey: srv.SecretAccessKey,
		Account: srv.Account, Client: srv.Client()})
}

// TestLinearizable: many clients at a time change and use keys, and what they are
// answered is what they would be if one thing happened after another. A change that
// was answered counts from then on, for everybody; no decision mixes what was with
// what is.
func TestLinearizable(t *testing.T) {
	for _, p := range historytest.Plots {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, p)
			history := s.Run(storySteps)
			if result := historytest.Check(t, p, history); result != porcupine.Ok {
				t.Errorf("the history is %s", result)
			}
			t.Logf("%d operations without an answer", s.Open())
			if len(history) < storySteps*9/10 {
				t.Error("many operations came to nothing: the test shows little")
			}
		})
	}
}

// TestLinearizableControl: the same histories with decisions that are remembered for
// the next 60 operations are found out.
func TestLinearizableControl(t *testing.T) {
	for _, p := range historytest.Plots {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			if result := historytest.Explained(p, newStory(t, p).RunForgetful(controlSteps)); result != porcupine.Illegal {
				t.Errorf("with stale decisions the history is %s", result)
			}
		})
	}
}
