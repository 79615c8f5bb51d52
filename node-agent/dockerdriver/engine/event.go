package engine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Event says that something has happened to a network or a container.
type Event struct {
	Type   string // EventNetwork or EventContainer
	Action string // see the constants
	ID     string // of the network or the container
	// Container is the ID of the one that was connected or disconnected.
	Container string
}

// The types of events, and the actions that are asked for.
const (
	EventNetwork   = "network"
	EventContainer = "container"

	ActionCreate     = "create"
	ActionDestroy    = "destroy"
	ActionConnect    = "connect"
	ActionDisconnect = "disconnect"
	ActionStart      = "start"
	ActionRename     = "rename"
)

// maxEvent bounds one event, in bytes: one of a container carries all its labels.
const maxEvent = 1 << 20

// Stream is the events of an engine, from when it was opened.
type Stream struct {
	body  io.ReadCloser
	lines *bufio.Scanner
}

// Events opens the stream of events about networks and running containers. Who opens
// it before he lists misses nothing.
func (c *Client) Events(ctx context.Context) (*Stream, error) {
	filters, err := json.Marshal(map[string][]string{
		"type":  {EventNetwork, EventContainer},
		"event": {ActionCreate, ActionDestroy, ActionConnect, ActionDisconnect, ActionStart, ActionRename},
	})
	if err != nil {
		return nil, fmt.Errorf("listen to the engine: %w", err)
	}
	resp, err := c.send(ctx, http.MethodGet, "/events", url.Values{"filters": {string(filters)}}, nil) //nolint:bodyclose // the stream closes it
	if err != nil {
		return nil, fmt.Errorf("listen to the engine: %w", err)
	}
	s := &Stream{body: resp.Body, lines: bufio.NewScanner(resp.Body)}
	s.lines.Buffer(nil, maxEvent)
	return s, nil
}

// Next returns the next event. An error ends the stream: something may be missed.
func (s *Stream) Next() (Event, error) {
	for s.lines.Scan() {
		if len(s.lines.Bytes()) == 0 {
			continue
		}
		e, err := decodeEvent(s.lines.Bytes())
		if err != nil {
			return Event{}, fmt.Errorf("listen to the engine: %w", err)
		}
		return e, nil
	}
	if err := s.lines.Err(); err != nil {
		return Event{}, fmt.Errorf("listen to the engine: %w", err)
	}
	return Event{}, errGone
}

var errGone = errors.New("listen to the engine: it went away")

// Close ends the stream.
func (s *Stream) Close() { _ = s.body.Close() }

// decodeEvent decodes one line of the stream.
func decodeEvent(line []byte) (Event, error) {
	var m struct {
		Type, Action string
		Actor        struct {
			ID         string
			Attributes map[string]string
		}
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return Event{}, fmt.Errorf("decode event: %w", err)
	}
	return Event{Type: m.Type, Action: m.Action, ID: m.Actor.ID, Container: m.Actor.Attributes["container"]}, nil
}
