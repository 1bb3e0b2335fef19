package cli

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Table prints rows: in aligned columns on a terminal; elsewhere with the cells of a row
// separated by a tab, for cut and awk.
type Table struct {
	env  *Env
	rows [][]Cell
}

// Cell is a text and how to mark it on a terminal.
type Cell struct {
	Text string
	Mark func(string) string
}

// NewTable starts a table with its header.
func (e *Env) NewTable(header ...string) *Table {
	table := &Table{env: e}
	cells := make([]Cell, len(header))
	for i, text := range header {
		cells[i] = Cell{text, e.Style.Bold}
	}
	table.Row(cells...)
	return table
}

// Row adds a row. Its texts may come from anywhere: see Printable.
func (t *Table) Row(cells ...Cell) {
	row := make([]Cell, len(cells))
	for i, cell := range cells {
		row[i] = Cell{Printable(cell.Text), cell.Mark}
	}
	t.rows = append(t.rows, row)
}

// Texts adds a row of unmarked cells.
func (t *Table) Texts(texts ...string) {
	cells := make([]Cell, len(texts))
	for i, text := range texts {
		cells[i] = Cell{Text: text}
	}
	t.Row(cells...)
}

// Print writes the table.
func (t *Table) Print() error {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell.Text))
		}
	}
	var text strings.Builder
	for _, row := range t.rows {
		for i, cell := range row {
			switch {
			case i > 0 && t.env.Terminal:
				text.WriteString("   ")
			case i > 0:
				text.WriteByte('\t')
			}
			shown := cell.Text
			if cell.Mark != nil {
				shown = cell.Mark(shown)
			}
			text.WriteString(shown)
			if t.env.Terminal && i < len(row)-1 {
				text.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell.Text)))
			}
		}
		text.WriteByte('\n')
	}
	_, err := fmt.Fprint(t.env.Out, text.String())
	return err
}
