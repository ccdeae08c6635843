package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"sampan.dev/sampan/internal/fault"
)

// A repository as the forge's API shows it.
type repository struct {
	Name     string `json:"name"`
	FullName string `json:"full_name"`
	Private  bool   `json:"private"`
	SSHURL   string `json:"ssh_url"`
	CloneURL string `json:"clone_url"`
	HTMLURL  string `json:"html_url"`
}

func repoCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "repo", Aliases: []string{"repos"}, Short: "List, create and delete repositories", Args: exactly()}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, _, err := dial(cmd.Context())
		if err != nil {
			return err
		}
		var list []repository
		if err := c.Forge(cmd.Context(), "GET", "/api/v1/user/repos", nil, &list); err != nil {
			return err
		}
		return show(cmd, list, func(w io.Writer) {
			if len(list) == 0 {
				fmt.Fprintln(w, "No repositories yet. Create one with: sampan repo create NAME")
				return
			}
			row(w, "REPOSITORY", "SEEN BY", "CLONE")
			for _, r := range list {
				seen := "everyone"
				if r.Private {
					seen = "its members"
				}
				row(w, r.FullName, seen, r.SSHURL)
			}
		})
	}
	cmd.AddCommand(repoCreateCommand(), repoDeleteCommand())
	return cmd
}

func repoCreateCommand() *cobra.Command {
	var private bool
	var description string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a repository", Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := dial(cmd.Context())
			if err != nil {
				return err
			}
			var r repository
			form := map[string]any{"name": args[0], "private": private, "description": description}
			if err := c.Forge(cmd.Context(), "POST", "/api/v1/user/repos", form, &r); err != nil {
				return err
			}
			return show(cmd, r, func(w io.Writer) {
				fmt.Fprintf(w, "Created %s\n\n  git remote add origin %s\n  git push -u origin main\n", r.HTMLURL, r.SSHURL)
			})
		},
	}
	cmd.Flags().BoolVar(&private, "private", true, "only its members see it")
	cmd.Flags().StringVar(&description, "description", "", "one line on what it is")
	return cmd
}

func repoDeleteCommand() *cobra.Command {
	var confirm string
	cmd := &cobra.Command{
		Use: "delete OWNER/NAME", Short: "Delete a repository and its history", Args: exactly("OWNER/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			owner, name, ok := strings.Cut(args[0], "/")
			if !ok {
				return fault.Invalid("%q is not OWNER/NAME", args[0])
			}
			if confirm != args[0] {
				return fault.Invalid("this deletes %s with all of its history", args[0]).Try("repeat with: --confirm %s", args[0])
			}
			c, _, err := dial(cmd.Context())
			if err != nil {
				return err
			}
			if err := c.Forge(cmd.Context(), "DELETE", "/api/v1/repos/"+url.PathEscape(owner)+"/"+url.PathEscape(name), nil, nil); err != nil {
				return err
			}
			return done(cmd, "Deleted "+args[0]+".")
		},
	}
	cmd.Flags().StringVar(&confirm, "confirm", "", "the repository's name again")
	return cmd
}
