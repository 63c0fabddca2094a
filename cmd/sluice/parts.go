package main

import (
	"fmt"
	"io"
	"path/filepath"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/layer"
	"github.com/sluiceproxy/sluice/analyzer/worker"
	"github.com/sluiceproxy/sluice/configs"
)

// What lies below the data folder, besides the content of package store.
const recordsFile = "records.db"

// advisoryDir is the folder of the advisory index.
func advisoryDir(data string) string { return filepath.Join(data, "advisories") }

// newScanner returns the scanner of serve and of scan. Its limits are part of
// its revision, so the two share the layers in the records only while they make
// it in the same way.
// Where layers are analysed, analysis.isolation says. stop ends what was started.
func newScanner(cfg configs.Analysis, log *zap.Logger) (s analyzer.LayerScanner, stop func() error, err error) {
	limits := layer.Options{MaxEntries: cfg.MaxEntries, MaxUncompressed: int64(cfg.MaxBytes)}
	if cfg.Isolation != "off" {
		w, err := worker.New(worker.Options{Command: []string{"", workerCommand}, Layer: limits, Log: log})
		switch {
		case err == nil:
			return w, w.Close, nil
		case cfg.Isolation == "process":
			return nil, nil, fmt.Errorf("%w (analysis.isolation: process wants it; auto goes on without)", err)
		}
		log.Warn("layers are analysed in the server's own process, no other can be had", zap.Error(err))
	}
	s, err = layer.New(limits)
	return s, func() error { return nil }, err
}

// newLogger returns a logger to w.
func newLogger(cfg configs.Log, w io.Writer) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(cfg.Level)
	if err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.EncodeTime = zapcore.ISO8601TimeEncoder
	encoding.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(encoding)
	if cfg.Format == "console" {
		encoding.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(encoding)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level)), nil
}
