package spec_test
