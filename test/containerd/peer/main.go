// Command peer is what containers of the tests run. Without arguments it waits until
// it is told to end, as the sandbox of a pod does. `peer serve :8080` answers who
// asks by HTTP with its host's name and the address that it has for the asking one;
// `peer fetch URL` asks, and prints the answer.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 0:
		<-ctx.Done()
	case len(args) == 2 && args[0] == "serve":
		err = serve(ctx, args[1])
	case len(args) == 2 && args[0] == "fetch":
		err = fetch(ctx, args[1])
	default:
		err = fmt.Errorf("usage: peer [serve ADDRESS | fetch URL]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

func serve(ctx context.Context, address string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	s := &http.Server{Addr: address, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr) // the server's own text
		fmt.Fprintf(w, "%s %s\n", name, host)         //nolint:gosec // no page: another peer reads it
	})}
	go func() {
		<-ctx.Done()
		_ = s.Close() // the program ends
	}()
	if err := s.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}

// patience bounds a question: a lost answer is an answer too.
const patience = 20 * time.Second

func fetch(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody) //nolint:gosec // the test says where
	if err != nil {
		return err
	}
	a, err := http.DefaultClient.Do(q) //nolint:gosec // the test says where
	if err != nil {
		return err
	}
	defer a.Body.Close()
	_, err = io.Copy(os.Stdout, a.Body)
	return err
}
