package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Log is where lines are kept for good.
type Log interface {
	// Append adds a line, which has no end of line in it, and returns when it
	// will not be lost any more.
	Append(line []byte) error
	Close() error
}

// The bounds of a file's size, in bytes, and of how many there are.
const (
	MinSize  = 2 * maxLine
	MaxSize  = 1 << 40
	MaxFiles = 1000
)

// File is a log in a file, and in older ones beside it: PATH, PATH.1, PATH.2 …
// A line is on disk (fsync) when Append returns; lines that come at once share
// one fsync. A full file is renamed, the oldest one goes.
type File struct {
	path  string
	size  int64 // of one file
	files int

	mu      sync.Mutex // of what follows
	f       *os.File
	length  int64
	torn    bool // the last line has no end: a crash, or a full disk
	written int

	syncing sync.Mutex // taken before mu
	synced  int        // of the lines that were written
}

// Open opens or makes a log of so many files of so many bytes each.
func Open(path string, size int64, files int) (*File, error) {
	if size < MinSize || size > MaxSize {
		return nil, fmt.Errorf("open audit log %s: %d bytes a file: want %d to %d", path, size, MinSize, int64(MaxSize))
	}
	if files < 1 || files > MaxFiles {
		return nil, fmt.Errorf("open audit log %s: %d files: want 1 to %d", path, files, MaxFiles)
	}
	l := &File{path: path, size: size, files: files}
	return l, l.open()
}

// errKind is a path at which something else lies.
var errKind = errors.New("it is no regular file: give - to write to stdout")

// open opens the file, with the lock held.
func (l *File) open() error {
	// A pipe would be waited for: look before opening.
	switch was, err := os.Stat(l.path); {
	case err == nil && !was.Mode().IsRegular():
		return fmt.Errorf("open audit log %s: %w", l.path, errKind)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("open audit log: %w", err)
	}
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open audit log: %w", err)
	}
	st, err := f.Stat()
	if err == nil {
		l.torn, err = isTorn(f, st.Size())
	}
	if err == nil {
		err = syncDir(l.path) // a new file's name
	}
	if err != nil {
		return errors.Join(fmt.Errorf("open audit log: %w", err), f.Close())
	}
	l.f, l.length = f, st.Size()
	return nil
}

// isTorn reports whether the last line was not written to its end.
func isTorn(f io.ReaderAt, size int64) (bool, error) {
	if size == 0 {
		return false, nil
	}
	last := make([]byte, 1)
	_, err := f.ReadAt(last, size-1)
	return last[0] != '\n', err
}

// syncDir makes the names in a file's directory last.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Append implements [Log].
func (l *File) Append(line []byte) error {
	n, err := l.write(append(slices.Clip(bytes.ReplaceAll(line, []byte("\n"), nil)), '\n'))
	if err != nil {
		return err
	}
	return l.sync(n)
}

// write returns how many lines have been written, this one included.
func (l *File) write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ready(int64(len(line))); err != nil {
		return 0, err
	}
	if l.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := l.f.Write(line)
	l.length += int64(n)
	if err != nil {
		l.torn = l.torn || n > 0
		return 0, fmt.Errorf("write audit log: %w", err)
	}
	l.torn = false
	l.written++
	return l.written, nil
}

// ready makes sure that the file is there, whoever moved it away, and has room.
func (l *File) ready(need int64) error {
	if l.f == nil {
		return l.open()
	}
	own, err := l.f.Stat()
	if err != nil {
		return fmt.Errorf("look at audit log: %w", err)
	}
	there, err := os.Stat(l.path)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look at audit log: %w", err)
	case err != nil || !os.SameFile(own, there):
		return l.reopen() // logrotate, or somebody's hand
	}
	l.length = own.Size() // copytruncate
	if l.length == 0 || l.length+need <= l.size {
		return nil
	}
	return l.rotate()
}

// rotate makes each file the next older one. The oldest goes by being replaced.
func (l *File) rotate() error {
	older := func(i int) string { return fmt.Sprintf("%s.%d", l.path, i) }
	if l.files == 1 {
		if err := os.Remove(l.path); err != nil {
			return fmt.Errorf("rotate audit log: %w", err)
		}
		return l.reopen()
	}
	for i := l.files - 2; i >= 1; i-- {
		if err := os.Rename(older(i), older(i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate audit log: %w", err)
		}
	}
	if err := os.Rename(l.path, older(1)); err != nil {
		return fmt.Errorf("rotate audit log: %w", err)
	}
	return l.reopen()
}

// reopen leaves the file that is open, with all its lines on disk.
func (l *File) reopen() error {
	err := errors.Join(l.f.Sync(), l.f.Close())
	l.f = nil
	if err != nil {
		return fmt.Errorf("close audit log: %w", err)
	}
	return l.open()
}

// sync returns when the first n lines are on disk. Who comes while another is
// at it waits, and mostly finds that his line is there.
func (l *File) sync(n int) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if l.synced >= n {
		return nil
	}
	l.mu.Lock()
	f, written := l.f, l.written
	l.mu.Unlock()
	if f == nil {
		return fmt.Errorf("write audit log: %w", fs.ErrClosed)
	}
	if err := f.Sync(); err != nil && !errors.Is(err, fs.ErrClosed) { // closed: it was left, and synced before
		return fmt.Errorf("write audit log: %w", err)
	}
	l.synced = written
	return nil
}

// Close implements [Log].
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := errors.Join(l.f.Sync(), l.f.Close())
	l.f = nil
	return err
}

// stream is a log that somebody else keeps: journald, a collector.
type stream struct {
	mu sync.Mutex
	w  io.Writer
}

// Stream returns a log that writes lines to w.
func Stream(w io.Writer) Log { return &stream{w: w} }

// Append implements [Log].
func (s *stream) Append(line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.w.Write(append(slices.Clip(line), '\n')); err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	return nil
}

// Close implements [Log].
func (s *stream) Close() error { return nil }
