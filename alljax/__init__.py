"""alljax: transfer learning on microscopic blood cells.

One way through: files → records → batches → features or gradients → heads →
predictions → metrics with intervals → tables, figures, report.  The rooms
`data`, `models`, `weights`, `training`, `evaluation` and `study` stand in that
order, and a room imports only from rooms before it.

Nothing is imported here, so that ``alljax --help`` starts at once.
"""

__version__ = "0.1.0"
