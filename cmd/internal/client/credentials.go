package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sampan.dev/sampan/internal/fault"
)

// Credentials are one sign-in, kept in the person's configuration directory.
type Credentials struct {
	Server string `json:"server"`
	Name   string `json:"name"`
	Token  string `json:"token"`
}

// File is where the credentials lie: $SAMPAN_CONFIG, or sampan/credentials.json in the
// configuration directory of the person.
func File() (string, error) {
	if file := os.Getenv("SAMPAN_CONFIG"); file != "" {
		return file, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the configuration directory: %w", err)
	}
	return filepath.Join(dir, "sampan", "credentials.json"), nil
}

// Load reads the credentials. SAMPAN_SERVER and SAMPAN_TOKEN go before the file.
func Load() (Credentials, error) {
	var c Credentials
	file, err := File()
	if err != nil {
		return c, err
	}
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return c, err
	default:
		if err := json.Unmarshal(text, &c); err != nil {
			return c, fault.Invalid("%s is not readable: %w", file, err).Try("remove it and sign in again: sampan login URL")
		}
	}
	if s := os.Getenv("SAMPAN_SERVER"); s != "" {
		c.Server = s
	}
	if t := os.Getenv("SAMPAN_TOKEN"); t != "" {
		c.Token = t
	}
	if c.Server == "" || c.Token == "" {
		return c, fault.SignIn("you are not signed in to a server").Try("sign in with: sampan login http://localhost:3000")
	}
	return c, nil
}

// Save writes the credentials for their owner alone.
func Save(c Credentials) error {
	file, err := File()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	tmp := file + ".new"
	if err := os.WriteFile(tmp, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

// Forget removes the credentials.
func Forget() error {
	file, err := File()
	if err != nil {
		return err
	}
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
