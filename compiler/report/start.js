// Draws what the page has a place for, and again when the colours change.
readColors();
if (document.getElementById('memory')) new MemoryChart();
if (document.getElementById('arena')) new ArenaMap();
if (document.getElementById('curve')) new Curve();
for (const plot of Plot.all) plot.redrawNow();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  readColors();
  for (const plot of Plot.all) plot.redrawNow();
});
// For printers, once the page is there.
setTimeout(() => {
  document.documentElement.dataset.print = '';
  readColors();
  for (const plot of Plot.all) plot.drawPaper();
  delete document.documentElement.dataset.print;
  readColors();
  for (const plot of Plot.all) plot.redrawNow();
}, 200);
