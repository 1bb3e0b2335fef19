// Package mlog stands in for monis.app/mlog, a logging package that the Secrets
// Store CSI driver v1.6.0 imports and that not every module proxy serves. It has
// only what the driver calls, and writes with klog.
package mlog

import (
	"context"

	"k8s.io/klog/v2"
)

// LogFormat is the form of log lines.
type LogFormat string

// The formats the driver names; both are klog's text here.
const (
	FormatText LogFormat = "text"
	FormatJSON LogFormat = "json"
)

// Setup returns the function that flushes the log at the end.
func Setup() func() { return klog.Flush }

// Error logs an error with fields.
func Error(msg string, err error, keysAndValues ...any) { klog.ErrorS(err, msg, keysAndValues...) }

// Fatal logs an error and ends the process.
func Fatal(err error) { klog.Fatal(err) }

// ValidateAndSetKlogLevelAndFormatGlobally leaves klog as it is.
func ValidateAndSetKlogLevelAndFormatGlobally(context.Context, klog.Level, LogFormat) error {
	return nil
}
