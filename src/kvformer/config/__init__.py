"""The configuration: studies, their tasks and settings, single runs, and how they are executed. No torch."""
